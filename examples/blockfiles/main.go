// Command blockfiles is a sink as a plugin: it writes each block to a file of its own. Build it,
// and name it in a definition of a stream:
//
//	go build -o /opt/sinks/blockfiles ./examples/blockfiles
//	sha256sum /opt/sinks/blockfiles
//
//	kind = "plugin" # streams/blocks.toml
//	path = "/opt/sinks/blockfiles"
//	sha256 = "…"
//	plugin = "blockfiles"
//	[settings]
//	dir = "/srv/blocks"
package main

import "github.com/coppice-go/coppice/engines/streams/plugin/sdk"

func main() { sdk.Serve(Factory()) }
