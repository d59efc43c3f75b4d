// Package comet is consensus by CometBFT: a supervised child process that orders blocks, and the
// ABCI application that it drives, which is this node. Either side may be killed at any instant,
// and the chain goes on.
//
//	consensus        rest_for_one
//	├── resets       makes the resets that are asked for, one after another
//	├── abci         serves ABCI on a unix socket, one path for each incarnation of the process
//	├── process      our own binary, re-executed, running CometBFT (supervisor/process)
//	├── watchdog     restarts the process when the committed height stands still without a reason
//	└── feed         hands the pool's transactions to CometBFT's mempool
//
// The driver uses the packages below, which do not import it. In this line, each package imports
// only those to its left:
//
//	wire ← home ← certificate ← bootstrap ← child ← manager ← comet
//
// wire is the frames of ABCI, home the files of CometBFT, certificate the proof of a reset,
// bootstrap finds with what CometBFT's data can begin anew, child is the process. manager runs the
// process for an application of somebody else and resets it. governance is the backend that changes
// the validators, comettest the test kit, shares what each sender has in CometBFT's mempool.
//
// # Guarantees
//
//   - The event log decides what is true. Info returns the last committed height and its app hash.
//     A height is committed if its BlockCommitted is durable, and only Commit makes one.
//   - No request is answered with an ABCI exception, which would leave CometBFT alive and its
//     consensus dead. A request that cannot be answered closes its connection. CometBFT then ends,
//     is started again, and shakes hands again.
//   - The handlers of a child that was replaced have ended before its successor can connect, so a
//     block is never driven by two.
//   - Each connection is served by itself: a query that waits delays only its own caller.
//   - The driver waits for a transaction core that restarts, and the child does not notice (ADR
//     0050).
//
// # Non-guarantees
//
//   - CometBFT keeps its own log (blocks, write-ahead log). If that is wiped and our state is not,
//     the start ends and says so. It can be rebuilt only from peers that are ahead.
//   - A validator's key is in a file, as CometBFT has it: mode 0600, not encrypted.
//
// This package relies on facts about CometBFT that were measured on v0.40.0: docs/cometbft.md.
package comet
