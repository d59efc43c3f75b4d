// Package manager runs CometBFT for somebody else's application and resets it, behind the HTTP API
// that the agents of the published manager speak.
//
//	manager          one_for_all
//	├── processes    dynamic: the process of CometBFT, temporary
//	├── machine      starts, watches, restarts and resets it, one thing at a time
//	└── api          the HTTP API
//
// # Guarantees
//
//   - Everything that changes the home or the process runs in the machine, one after another:
//     resets, POST /params, and the restarts of a process that ended, lost its application or
//     stopped its RPC. An answer is given after what it tells about. A caller that goes away does
//     not interrupt what has begun.
//   - A process that ends is started again, with pauses that grow, however it ended. One that
//     ignores SIGTERM gets SIGKILL, and has ended after at most 5 s.
//   - Genesis, configuration and signing state are replaced whole (package bare). A hard reset that
//     a kill interrupts is finished at the next start.
//   - A validator's key signs no two votes for one height, round and step of one chain id, whatever
//     resets are made: the last signing state of each chain id is kept beside the home and put back
//     when that id returns. It is zeroed only for a chain id with which the key has never signed,
//     as far as the manager has seen. The key of a lone validator is the exception, because there
//     is nobody whom it could deceive, and the answer says so.
//
// # Non-guarantees
//
//   - The state of the application is the application's. After a hard reset it must answer Info
//     with height 0.
//   - A chain that stands still may wait for other validators. The machine tells it, and restarts
//     CometBFT for it only if Settings.RestartStalled says so.
package manager
