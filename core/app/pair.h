// SPDX-License-Identifier: MIT
#pragma once

// What supervisor and server say to each other over their socket pair, a byte each. Programs of different versions talk over it while
// one takes over from the other, so letters keep their meaning and unknown ones are ignored. End of file: the other is gone.

enum {
  // the server says
  MW_PAIR_SOCKETS = 's', /**< Descriptors come with it (see app/handover.h). Before anything else, by one that takes over. */
  MW_PAIR_CHECKED = 'c', /**< All it needs is in order; it serves as soon as the data folder is free. */
  MW_PAIR_READY = 'r',   /**< It serves. */
  MW_PAIR_ALIVE = 'a',   /**< The answer to a ping: its workers run. */
  // the supervisor says
  MW_PAIR_PING = 'p',
  MW_PAIR_HAND_OVER = 'h', /**< Another server waits for the data folder: end, and let connections in for as long as possible. */
  MW_PAIR_LEAVE = 'l',     /**< Another server serves: drain. */
  MW_PAIR_ALONE = 'o',     /**< The server before is gone. */
};
