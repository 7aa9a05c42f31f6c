DROP TABLE {{schema}}.login_links;
DROP TABLE {{schema}}.sessions;
DROP TABLE {{schema}}.keys;
