// Package cometclients tests software that others have written for CometBFT against a whole node
// with a real CometBFT: the module's RPC client, light client and proxy, the payload of its load
// tool, a home made for another application, and vote extensions. It has tests only.
package cometclients
