// Package bootstrap finds with what CometBFT's data can begin anew at the height of the home's own
// state: the light blocks around it, which the peers have and which prove themselves. What it finds
// includes a committed block after our own. So whatever this validator has signed at that height no
// longer matters, and nothing that binds it is lost with CometBFT's write-ahead log.
package bootstrap
