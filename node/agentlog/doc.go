// Package agentlog writes the log file of a node's agent: which rounds the service enters and ends,
// which behaviours run, and which timeouts are armed. Programs that analyse the logs of such agents
// read its lines, so their texts do not change:
//
//	[2026-01-31 12:00:00,123] [INFO] [a] arrived block with timestamp: 2026-01-31 12:00:00.054321
//	[2026-01-31 12:00:00,123] [INFO] [a] current AbciApp time: 2026-01-31 12:00:00.054321
//	[2026-01-31 12:00:00,123] [INFO] [a] 'observe' round is done with event: Event.DONE
//	[2026-01-31 12:00:00,123] [INFO] [a] Entered in the 'estimate' round for period 0
//	[2026-01-31 12:00:00,123] [INFO] [a] scheduling timeout of 7.0 seconds for event
//	    Event.ROUND_TIMEOUT with deadline 2026-01-31 12:00:07.054321
//	[2026-01-31 12:00:00,130] [INFO] [a] Entered in the 'estimate' behaviour
//
// (The fifth is one line in the file.) All times are in UTC. A line begins with the time at which
// it was written, to the millisecond.
//
// The file is for people and their tools, and not the truth: a node that was down writes nothing
// about the blocks that it caught up without its agent, and a line may be written twice after a
// restart. What is true stands in the event log.
package agentlog
