// SPDX-License-Identifier: MIT

// From the end of an exchange to a line of the access log.

#include "base/clock.h"
#include "http/server_impl.h"

#define CLIENT_WENT_AWAY 499 // as nginx writes it

// What the answer told the client; a request that nobody traced has none.
static mw_str find_trace(const mw_request *req) {
  mw_str name = MW_STR("x-trace-id: "), rest = mw_buf_str(&req->headers_out), line;
  while (mw_str_split(&rest, '\n', &line))
    if (mw_str_starts_with(line, name) && line.len > name.len + 1) return mw_str_of(line.ptr + name.len, line.len - name.len - 1);
  return mw_str_of(NULL, 0);
}

void access_note(mw_request *req) {
  int64_t duration_ns = mw_clock_mono_ns() - req->started_ns;
  const mw_route *route = req->match.route;
  mw_access_entry entry = {
      .wall_us = mw_clock_wall_us() - duration_ns / 1000,
      .duration_ns = duration_ns,
      .status = req->status_out ? req->status_out : CLIENT_WENT_AWAY,
      .minor = req->minor,
      .bytes = req->bytes_out - req->head_bytes,
      .hides_query = route && route->has_secret_query,
      .ip = mw_request_ip(req),
      .peer = mw_request_peer(req),
      .method = req->head.method,
      .target = req->head.target,
      .host = mw_request_host(req),
      .referer = mw_request_header(req, MW_STR("referer")),
      .user_agent = mw_request_header(req, MW_STR("user-agent")),
      .route = route ? route->pattern : mw_str_of(NULL, 0),
      .trace_id = find_trace(req),
      .tls = mw_str_from(mw_stream_tls_version(req->conn->stream)),
  };
  mw_access_sink_add(&req->server->access, &entry);
}
