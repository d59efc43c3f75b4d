package main

import (
	"context"

	"github.com/coppice-go/coppice/engines"
)

// limitedCall calls with a time limit, as gen_server:call does.
func limitedCall(to engines.Address, q ask) (int, error) {
	return engines.CallFor(context.Background(), callLimit, to, q)
}
