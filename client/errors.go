package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

var (
	// ErrUnknown: the context ended before the node answered, so it is unknown whether the node has
	// the transaction.
	ErrUnknown = errors.New("it is unknown whether the node has the transaction")

	// ErrPending: the context ended after the node had accepted the transaction. The transaction is
	// durable and its result will come; ask for it with Tx.
	ErrPending = errors.New("transaction was accepted, and has no result yet")

	// ErrExpired: the transaction was accepted, but the block time passed its ValidUntil before it
	// was applied. It never will be applied.
	ErrExpired = errors.New("transaction expired before it was applied")

	// ErrNotFound: the node knows no transaction with that id.
	ErrNotFound = errors.New("transaction is not known")

	errNoAddress = errors.New("no address")
)

// RefusedError is the reason why the node refused a transaction. The transaction had no effect.
type RefusedError struct {
	ID     chain.TxID
	Code   apiv1.RefusedCode
	Reason string // what is wrong, where, and what was expected
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("transaction %s refused: %s", e.ID.Short(), e.Reason)
}

// lost reports whether another attempt may succeed: the node is down, the connection broke, or one
// attempt took too long while the caller still has time.
func lost(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}

	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeAborted:
		return true
	}

	var broken net.Error
	return errors.As(err, &broken) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// reached reports whether a failed request may have reached the node's tree. It did not if nothing
// listened at the address, or if the request was rejected for its contents.
func reached(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied,
		connect.CodeResourceExhausted:
		return false
	}
	op := new(net.OpError)
	return !errors.Is(err, errNoAddress) && !(errors.As(err, &op) && op.Op == "dial")
}
