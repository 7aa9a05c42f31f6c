DROP TABLE {{schema}}.server_keys;
