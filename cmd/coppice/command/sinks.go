package command

import (
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/engines/streams/kafka"
	"github.com/coppice-go/coppice/engines/streams/nats"
	"github.com/coppice-go/coppice/engines/streams/plugin"
	"github.com/coppice-go/coppice/engines/streams/postgres"
	"github.com/coppice-go/coppice/node"
)

// sinks returns the kinds of sinks that every program of this command line has.
func sinks() []node.Option {
	return []node.Option{node.WithSink(file.Factory()), node.WithSink(postgres.Factory()),
		node.WithSink(kafka.Factory()), node.WithSink(nats.Factory()), node.WithSink(plugin.Factory())}
}
