package chain

import "errors"

// Errors with which the pool refuses a submission, beside ErrMalformedTx. A refusal wraps one of
// them and says what was wrong.
var (
	ErrUnknownBackend = errors.New("unknown backend")
	ErrBadBody        = errors.New("the backend does not understand the body")
	ErrTooLarge       = errors.New("transaction is too large")
	ErrExpired        = errors.New("transaction has expired")
	ErrTooEarly       = errors.New("valid_until lies too far ahead")
	ErrDeferred       = errors.New("transaction has no place in a block yet")
	ErrPoolFull       = errors.New("pool is full")
	ErrNotStarted     = errors.New("the chain has not started")
)
