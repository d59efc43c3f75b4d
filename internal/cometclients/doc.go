// Package cometclients tries what others have written for CometBFT on a whole node, with a real
// CometBFT under it: the module's RPC client, light client and proxy, the payload of its load tool,
// a home made for another application, and vote extensions. It has tests only.
package cometclients
