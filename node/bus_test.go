package node_test

import (
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/pubsub"
)

var (
	everyRecord = pubsub.Chain[engines.Event]{pubsub.Equal("type", func(e engines.Event) string {
		if _, ok := e.(engines.RecordLogged); ok {
			return "record"
		}
		return "tree"
	}).Is("record")}
	dropOldest = pubsub.DropOldest{Buffer: 16}
)
