// Package rpcserver serves CometBFT's RPC, in place of CometBFT's own server. The methods and their
// answers are CometBFT's. What differs is memory: CometBFT makes the answer to a whole batch, and
// to any number of requests at once, before it sends the first byte. Here the answers of a batch
// are made and sent one at a time, up to a limit, and all answers that are being made share one
// budget. The limits hold for strangers; our own socket has none of them, and has the methods that
// only the owner of the home may use.
package rpcserver
