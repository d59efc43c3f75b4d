// Package sdk makes a plugin of a sink: a program whose main calls Serve with the sink's factory.
//
//	func main() { sdk.Serve(mine.Factory()) }
//
// The same factory registers the sink in a program that embeds a node (node.WithSink), and
// sinktest tests it. A node starts the plugin by the path and the checksum in a definition; see
// docs/streams/plugin.md.
//
// What the plugin writes to standard error is kept, a little of it, for the node's errors. Standard
// output belongs to the handshake.
package sdk
