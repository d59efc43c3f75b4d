package api

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// codes maps the errors of a Core or a Host to Connect codes. The first row whose error matches
// counts.
var codes = []struct {
	err  error
	code connect.Code
}{
	{ErrUnavailable, connect.CodeUnavailable},
	{engines.ErrDown, connect.CodeUnavailable},
	{ErrNoHeight, connect.CodeOutOfRange},
	{ErrNoRecord, connect.CodeOutOfRange},
	{ErrBeyond, connect.CodeOutOfRange},
	{ErrForeign, connect.CodeFailedPrecondition},
	{ErrTooMuch, connect.CodeInvalidArgument},
	{ErrNoPath, connect.CodeNotFound},
	{supervisor.ErrNotFound, connect.CodeNotFound},
	{supervisor.ErrNotRunning, connect.CodeFailedPrecondition},
	{ErrLogLevel, connect.CodeInvalidArgument},
	{ErrHow, connect.CodeInvalidArgument},
	{ErrNotRunning, connect.CodeFailedPrecondition},
	{ErrNoStateSync, connect.CodeFailedPrecondition},
	{ErrNotAdopted, connect.CodeFailedPrecondition},
	{consensus.ErrNoSnapshot, connect.CodeNotFound},
	{streams.ErrNoSlot, connect.CodeNotFound},
	{streams.ErrBehind, connect.CodeDeadlineExceeded},
	{streams.ErrState, connect.CodeFailedPrecondition},
	{streams.ErrNoRead, connect.CodeFailedPrecondition},
	{streams.ErrNoHeight, connect.CodeOutOfRange},
	{streams.ErrDefinition, connect.CodeInvalidArgument},
	{ErrNoPart, connect.CodeInvalidArgument},
	{ErrInspecting, connect.CodeResourceExhausted},
	{ErrBusy, connect.CodeResourceExhausted},
	{pubsub.ErrFilter, connect.CodeInvalidArgument},
	{eventlog.ErrCorrupt, connect.CodeDataLoss},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
}

// refusals maps the pool's refusals to their codes.
var refusals = []struct {
	err  error
	code apiv1.RefusedCode
}{
	{chain.ErrMalformedTx, apiv1.RefusedCode_REFUSED_CODE_MALFORMED},
	{chain.ErrUnknownBackend, apiv1.RefusedCode_REFUSED_CODE_UNKNOWN_BACKEND},
	{chain.ErrBadBody, apiv1.RefusedCode_REFUSED_CODE_BAD_BODY},
	{chain.ErrTooLarge, apiv1.RefusedCode_REFUSED_CODE_TOO_LARGE},
	{chain.ErrExpired, apiv1.RefusedCode_REFUSED_CODE_EXPIRED},
	{chain.ErrTooEarly, apiv1.RefusedCode_REFUSED_CODE_TOO_EARLY},
	{chain.ErrDeferred, apiv1.RefusedCode_REFUSED_CODE_TOO_EARLY},
	{chain.ErrPoolFull, apiv1.RefusedCode_REFUSED_CODE_POOL_FULL},
}

// RefusedCode returns the code of a refusal, which is the Err of a chain.Submitted. The code is
// unspecified if err is not one of the refusals in package chain.
func RefusedCode(err error) apiv1.RefusedCode {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.code
		}
	}
	return apiv1.RefusedCode_REFUSED_CODE_UNSPECIFIED
}

// wireError returns the error that the client receives for err. If the request was cut off because
// its gate was closed, the code is unavailable, whatever error the Core returned when it was cut
// off.
func wireError(ctx context.Context, err error) error {
	if wire := new(connect.Error); errors.As(err, &wire) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrUnavailable) {
		return connect.NewError(connect.CodeUnavailable, cause)
	}

	for _, c := range codes {
		if errors.Is(err, c.err) {
			return connect.NewError(c.code, err)
		}
	}

	if errors.Is(err, context.Canceled) {
		if ctx.Err() == nil { // the client did not cancel: something in the node ended
			return connect.NewError(connect.CodeUnavailable, err)
		}
		return connect.NewError(connect.CodeCanceled, err)
	}

	return connect.NewError(connect.CodeInternal, err)
}

// invalid returns the error for a field with an invalid value.
func invalid(field, format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
}

// Unavailable wraps err in ErrUnavailable if the chain has not started yet, because the caller may
// then try again. It returns any other err unchanged.
func Unavailable(err error) error {
	if errors.Is(err, chain.ErrNotStarted) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
