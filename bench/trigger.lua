-- wrk's script: each request starts a bench workflow.
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
wrk.body = '{"workflow":"bench","input":{"batch":"http"}}'
