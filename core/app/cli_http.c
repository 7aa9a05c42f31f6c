// SPDX-License-Identifier: MIT
#include "app/cli_http.h"

#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/cli_config.h"
#include "base/json.h"

#define DEFAULT_TIMEOUT_S 60

// A URL taken apart, or the control socket.
typedef struct target {
  bool is_unix, is_tls;
  char host[256], port[8];
  char path[512]; // of the socket, or in front of every path of the URL
  char shown[600];
} target;

typedef struct connection {
  int fd;
  SSL_CTX *context;
  SSL *ssl;
} connection;

// ---- where ----

static bool parse_url(const char *url, target *to) {
  const char *rest = NULL;
  if (strncmp(url, "http://", 7) == 0) rest = url + 7;
  if (strncmp(url, "https://", 8) == 0) {
    rest = url + 8;
    to->is_tls = true;
  }
  if (!rest) return false;
  size_t len = strcspn(rest, "/?#");
  const char *colon = memrchr(rest, ':', len);
  if (colon && memchr(colon, ']', len - (size_t)(colon - rest))) colon = NULL; // inside [::1]
  size_t host_len = colon ? (size_t)(colon - rest) : len;
  size_t port_len = colon ? len - host_len - 1 : 0;
  if (!host_len || host_len >= sizeof to->host || port_len >= sizeof to->port || memchr(rest, '@', len)) return false;
  if (rest[0] == '[' && rest[host_len - 1] == ']') snprintf(to->host, sizeof to->host, "%.*s", (int)host_len - 2, rest + 1);
  else snprintf(to->host, sizeof to->host, "%.*s", (int)host_len, rest);
  if (colon) snprintf(to->port, sizeof to->port, "%.*s", (int)port_len, colon + 1);
  else snprintf(to->port, sizeof to->port, "%s", to->is_tls ? "443" : "80");
  size_t path_len = strcspn(rest + len, "?#");
  while (path_len && rest[len + path_len - 1] == '/') path_len--;
  if (path_len >= sizeof to->path) return false;
  snprintf(to->path, sizeof to->path, "%.*s", (int)path_len, rest + len);
  return true;
}

static int find_target(const mw_cli *cli, const mw_config *conf, target *to) {
  const char *url = mw_cli_get(cli, "url");
  if (!url) url = getenv("MOONWATCH_URL");
  memset(to, 0, sizeof *to);
  if (url && *url) {
    if (!parse_url(url, to)) return mw_cli_fail(cli, MW_EXIT_USAGE, "'%s' is no address; write http://host:port", url);
    snprintf(to->shown, sizeof to->shown, "%s", url);
    return 0;
  }
  to->is_unix = true;
  snprintf(to->path, sizeof to->path, "%s/moonwatch.sock", conf->data);
  snprintf(to->shown, sizeof to->shown, "%s", to->path);
  return 0;
}

static int unreachable(const mw_cli *cli, const target *to, const char *why) {
  fprintf(stderr, "moonwatch %s: no server answered at %s: %s\n", cli->command->name, to->shown, why);
  fputs(to->is_unix ? "Start one with `moonwatch serve`, name its data folder with --data DIR, or its address with --url URL.\n"
                    : "Check the address; a server on this machine is reached without --url, through its data folder (--data DIR).\n", stderr);
  return MW_EXIT_UNREACHABLE;
}

// ---- connecting ----

static void set_timeout(int fd, int seconds) {
  struct timeval limit = {.tv_sec = seconds ? seconds : DEFAULT_TIMEOUT_S};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int connect_unix(const target *to, const char **why) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(to->path) >= sizeof address.sun_path) {
    *why = "the path is too long for a socket (107 bytes); use a shorter or relative --data";
    return -1;
  }
  strcpy(address.sun_path, to->path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  *why = strerror(errno);
  if (fd >= 0) close(fd);
  return -1;
}

static int connect_tcp(const target *to, int timeout_s, const char **why) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  int rc = getaddrinfo(to->host, to->port, &hints, &list), fd = -1;
  *why = rc ? gai_strerror(rc) : "it has no address";
  for (struct addrinfo *a = rc ? NULL : list; a && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) continue;
    set_timeout(fd, timeout_s);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
    *why = strerror(errno);
    close(fd);
    fd = -1;
  }
  if (list) freeaddrinfo(list);
  return fd;
}

static bool start_tls(connection *c, const target *to, const char **why) {
  c->context = SSL_CTX_new(TLS_client_method());
  c->ssl = c->context ? SSL_new(c->context) : NULL;
  if (!c->ssl) return *why = "TLS cannot be set up", false;
  SSL_CTX_set_default_verify_paths(c->context);
  SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
  SSL_set_tlsext_host_name(c->ssl, to->host);
  SSL_set1_host(c->ssl, to->host);
  SSL_set_fd(c->ssl, c->fd);
  if (SSL_connect(c->ssl) == 1) return true;
  long verdict = SSL_get_verify_result(c->ssl);
  *why = verdict == X509_V_OK ? "the TLS handshake failed" : X509_verify_cert_error_string(verdict);
  return false;
}

static bool open_connection(connection *c, const target *to, int timeout_s, const char **why) {
  *c = (connection){.fd = to->is_unix ? connect_unix(to, why) : connect_tcp(to, timeout_s, why)};
  if (c->fd < 0) return false;
  set_timeout(c->fd, timeout_s);
  return !to->is_tls || start_tls(c, to, why);
}

static void close_connection(connection *c) {
  if (c->ssl) SSL_free(c->ssl);
  if (c->context) SSL_CTX_free(c->context);
  if (c->fd >= 0) close(c->fd);
}

static bool send_all(connection *c, const char *bytes, size_t len) {
  while (len) {
    ssize_t n = c->ssl ? SSL_write(c->ssl, bytes, (int)(len > 65536 ? 65536 : len)) : send(c->fd, bytes, len, MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes += n;
    len -= (size_t)n;
  }
  return true;
}

static ssize_t receive(connection *c, char *bytes, size_t size) {
  return c->ssl ? SSL_read(c->ssl, bytes, (int)size) : recv(c->fd, bytes, size, 0);
}

// ---- one exchange ----

static int on_body(llhttp_t *parser, const char *at, size_t len) {
  mw_cli_answer *answer = parser->data;
  if (answer->body.len + len > MW_CLI_HTTP_MAX_BYTES) return -1;
  mw_buf_add(&answer->body, at, len);
  return 0;
}

static int on_complete(llhttp_t *parser) {
  mw_cli_answer *answer = parser->data;
  if (parser->status_code >= 200) answer->status = parser->status_code;
  return 0;
}

static void write_request(const target *to, const char *token, const mw_cli_request *request, mw_buf *out) {
  bool is_six = strchr(to->host, ':') != NULL;
  mw_buf_printf(out, "%s %s%s HTTP/1.1\r\n", request->method, to->is_unix ? "" : to->path, request->path);
  if (to->is_unix) mw_buf_add_cstr(out, "Host: localhost\r\n");
  else mw_buf_printf(out, "Host: %s%s%s:%s\r\n", is_six ? "[" : "", to->host, is_six ? "]" : "", to->port);
  mw_buf_add_cstr(out, "User-Agent: moonwatch/" MW_VERSION "\r\nAccept: application/json\r\nConnection: close\r\n");
  if (!to->is_unix && token && *token) mw_buf_printf(out, "Authorization: Bearer %s\r\n", token);
  if (request->key) mw_buf_printf(out, "Idempotency-Key: %s\r\n", request->key);
  if (request->body.len || strcmp(request->method, "GET") != 0)
    mw_buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body.len);
  mw_buf_add_cstr(out, "\r\n");
  mw_buf_add_str(out, request->body);
}

static const char *read_answer(connection *c, mw_cli_answer *answer) {
  llhttp_t parser;
  llhttp_settings_t settings;
  char bytes[16384];
  llhttp_settings_init(&settings);
  settings.on_body = on_body;
  settings.on_message_complete = on_complete;
  llhttp_init(&parser, HTTP_RESPONSE, &settings);
  parser.data = answer;
  while (!answer->status) {
    ssize_t n = receive(c, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? "it took too long" : strerror(errno);
    if (n == 0) {
      llhttp_finish(&parser);
      break;
    }
    if (llhttp_execute(&parser, bytes, (size_t)n) != HPE_OK)
      return answer->body.len > MW_CLI_HTTP_MAX_BYTES - sizeof bytes ? "its answer is too large" : "its answer is no HTTP";
  }
  return answer->status ? NULL : "it closed the connection without an answer";
}

int mw_cli_http(const mw_cli *cli, const mw_config *conf, const mw_cli_request *request, mw_cli_answer *answer) {
  target to;
  connection c;
  const char *why = "";
  *answer = (mw_cli_answer){0};
  int rc = find_target(cli, conf, &to);
  if (rc) return rc;
  if (!open_connection(&c, &to, request->timeout_s, &why)) {
    rc = unreachable(cli, &to, why);
    close_connection(&c);
    return rc;
  }
  mw_buf out = MW_BUF_INIT;
  write_request(&to, conf->token, request, &out);
  why = send_all(&c, out.ptr, out.len) ? read_answer(&c, answer) : strerror(errno);
  explicit_bzero(out.ptr, out.len);
  mw_buf_deinit(&out);
  close_connection(&c);
  if (!why) return 0;
  mw_cli_answer_deinit(answer);
  return unreachable(cli, &to, why);
}

void mw_cli_answer_deinit(mw_cli_answer *answer) { mw_buf_deinit(&answer->body); }

// ---- reading answers ----

static bool find_string(mw_json_reader *reader, const char *key, mw_buf *out) {
  const char *dot = strchr(key, '.');
  mw_str first = mw_str_of(key, dot ? (size_t)(dot - key) : strlen(key));
  if (mw_json_read(reader) != MW_JSON_OBJECT_BEGIN) return false;
  while (mw_json_read(reader) == MW_JSON_KEY) {
    if (!mw_str_eq(reader->text, first)) {
      if (mw_json_skip(reader)) return false;
    } else if (dot) {
      return find_string(reader, dot + 1, out);
    } else {
      mw_json_token token = mw_json_read(reader);
      if (token == MW_JSON_STRING) mw_buf_add_plain(out, reader->text, "\n");
      else if (token == MW_JSON_NUMBER) mw_buf_add_str(out, reader->raw);
      else return false;
      return true;
    }
  }
  return false;
}

bool mw_cli_json_string(mw_str json, const char *key, mw_buf *out) {
  mw_json_reader reader;
  mw_json_reader_init(&reader, json, NULL);
  bool found = find_string(&reader, key, out);
  mw_json_reader_deinit(&reader);
  return found;
}

static void read_items(mw_json_reader *reader, void (*each)(mw_str item, void *arg), void *arg) {
  if (mw_json_read(reader) != MW_JSON_ARRAY_BEGIN) return;
  for (mw_json_token token; (token = mw_json_read(reader)) > MW_JSON_END && token != MW_JSON_ARRAY_END;) {
    if (token != MW_JSON_OBJECT_BEGIN) {
      each(token == MW_JSON_STRING ? reader->text : reader->raw, arg);
      continue;
    }
    const char *begin = reader->raw.ptr;
    int depth = reader->depth;
    while (token > MW_JSON_END && !(token == MW_JSON_OBJECT_END && reader->depth == depth - 1)) token = mw_json_read(reader);
    if (token > MW_JSON_END) each(mw_str_of(begin, (size_t)(reader->at - begin)), arg);
  }
}

void mw_cli_json_each(mw_str json, const char *key, void (*each)(mw_str item, void *arg), void *arg) {
  mw_json_reader reader;
  mw_json_reader_init(&reader, json, NULL);
  if (mw_json_read(&reader) == MW_JSON_OBJECT_BEGIN)
    while (mw_json_read(&reader) == MW_JSON_KEY) {
      if (!mw_str_eq(reader.text, mw_str_from(key))) {
        if (mw_json_skip(&reader)) break;
        continue;
      }
      read_items(&reader, each, arg);
      break;
    }
  mw_json_reader_deinit(&reader);
}

int mw_cli_http_show(mw_cli *cli, const mw_cli_request *request, void (*show)(const mw_cli *cli, mw_str body)) {
  mw_config conf;
  mw_cli_answer answer;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = mw_cli_http(cli, &conf, request, &answer);
  if (!code) {
    if (answer.status / 100 != 2) code = mw_cli_answer_fail(cli, &answer);
    else if (mw_cli_has(cli, "json")) printf("%.*s\n", MW_STR_FMT(mw_buf_str(&answer.body)));
    else show(cli, mw_buf_str(&answer.body));
    mw_cli_answer_deinit(&answer);
  }
  mw_config_deinit(&conf);
  return code;
}

int mw_cli_answer_fail(const mw_cli *cli, const mw_cli_answer *answer) {
  static const char *const keys[] = {"detail", "error.message", "error", "message", "title"};
  mw_buf text = MW_BUF_INIT, hint = MW_BUF_INIT;
  mw_str body = mw_buf_str(&answer->body);
  for (size_t i = 0; i < sizeof keys / sizeof *keys && !text.len; i++) mw_cli_json_string(body, keys[i], &text);
  mw_cli_json_string(body, "hint", &hint);
  if (answer->status == 401) {
    mw_buf_reset(&hint, 4096);
    mw_buf_add_cstr(&hint, "Give the server's token, or a key, with --token or MOONWATCH_TOKEN.");
  }
  mw_cli_fail(cli, MW_EXIT_FAILED, "%s (HTTP %d)", text.len ? mw_buf_cstr(&text) : "the server refused", answer->status);
  if (hint.len) fprintf(stderr, "%s\n", mw_buf_cstr(&hint));
  mw_buf_deinit(&text);
  mw_buf_deinit(&hint);
  return MW_EXIT_FAILED;
}

// ---- columns ----

void mw_cli_print_cell(mw_str json, const char *key, int width, int most) {
  mw_buf text = MW_BUF_INIT;
  if (!mw_cli_json_string(json, key, &text)) mw_buf_add_byte(&text, '-');
  printf("%-*.*s ", width, most ? most : (int)text.len, mw_buf_cstr(&text));
  mw_buf_deinit(&text);
}

// ---- paths ----

void mw_cli_add_escaped(mw_buf *out, const char *text) {
  for (; *text; text++) {
    char c = *text;
    bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
    if (is_plain) mw_buf_add_byte(out, c);
    else mw_buf_printf(out, "%%%02X", (unsigned char)c);
  }
}

void mw_cli_add_parameter(mw_buf *path, const char *name, const char *value) {
  if (!value) return;
  mw_buf_add_byte(path, memchr(path->ptr, '?', path->len) ? '&' : '?');
  mw_cli_add_escaped(path, name);
  mw_buf_add_byte(path, '=');
  mw_cli_add_escaped(path, value);
}
