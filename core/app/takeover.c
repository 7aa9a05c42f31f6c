// SPDX-License-Identifier: MIT

// The new program of a binary swap, as a child of the supervisor that runs the old one: loads its configuration, takes or binds the
// sockets, checks itself, and serves when the server before has let go of the data folder. What is wrong is logged and ends it; the
// server before goes on then.

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/certificates.h"
#include "app/cli_config.h"
#include "app/commands.h"
#include "app/handover.h"
#include "app/pair.h"
#include "app/serve.h"
#include "app/sockets.h"
#include "base/log.h"

static int say(int pair_fd, char what, mw_err *err) {
  return write(pair_fd, &what, 1) == 1 ? 0 : mw_err_set(err, MW_ECLOSED, "the supervisor is gone");
}

static int hand_to_supervisor(const mw_config *conf, const mw_runtime_fds *fds, mw_err *err) {
  mw_handover handover;
  mw_handover_init(&handover);
  mw_handover_set_sockets(&handover, conf, fds);
  int config_fd = mw_handover_pack(conf, err);
  if (config_fd < 0) return config_fd;
  handover.config_fd = config_fd;
  int rc = mw_handover_send(fds->supervisor, &handover, err);
  close(config_fd);
  return rc;
}

static int prepare(const mw_config *conf, mw_handover *before, mw_runtime_fds *fds, mw_err *err) {
  int pair_fd = before->pair_fd;
  int rc = mw_config_check_access(conf, err);
  if (!rc) rc = mw_sockets_adopt(conf, before, fds, err);
  if (rc) return rc;
  fds->supervisor = pair_fd;
  fds->takes_over = true;
  rc = hand_to_supervisor(conf, fds, err);
  if (!rc) rc = mw_certificates_check(conf, err);
  if (!rc) rc = mw_runtime_try(conf, err);
  return rc ? rc : say(pair_fd, MW_PAIR_CHECKED, err);
}

static int refuse(int code, const mw_err *err) {
  mw_log(MW_LOG_ERROR, "upgrade", "the new program cannot serve", MW_LOG_S("why", err->text));
  return code;
}

static int run_upgrade(mw_cli *cli) {
  mw_handover before;
  mw_runtime_fds fds;
  mw_config conf;
  mw_err err = {0};
  signal(SIGUSR2, SIG_IGN);
  int state_fd = atoi(cli->argv[0]);
  if (mw_handover_read(state_fd, &before, &err)) return mw_cli_usage_error(cli, "this command is the supervisor's");
  close(state_fd);
  before.pair_fd = atoi(cli->argv[1]);
  mw_handover_set_inherited(&before, false);
  if (mw_cli_try_config(cli, &conf, &err)) return refuse(MW_EXIT_USAGE, &err);
  int code = prepare(&conf, &before, &fds, &err) ? refuse(MW_EXIT_FAILED, &err) : mw_serve(&conf, &fds);
  mw_config_deinit(&conf);
  return code;
}

const mw_command mw_command_upgrade = {
    .name = "__upgrade",
    .args = "STATE PAIR",
    .summary = "Take over from the server before",
    .flags = mw_serve_flags,
    .min_args = 2,
    .max_args = 2,
    .takes_config = true,
    .is_hidden = true,
    .run = run_upgrade,
};
