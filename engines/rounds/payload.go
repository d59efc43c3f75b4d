package rounds

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
)

// Backend is the name of the backend whose transactions carry payloads.
const Backend = chain.RoundsBackend

// ErrPayload is the error for bytes that are no signed payload of a registered agent.
var ErrPayload = errors.New("payload")

// Payload is what an agent says in a round.
type Payload struct {
	Agent Agent
	Label string // of the app, or of the background round
	Count uint64 // of the entry into the round

	// ValidUntil is the last block time at which the payload counts, in whole milliseconds. It is
	// signed, so that nobody can make another transaction of a payload that was sent.
	ValidUntil time.Time

	Bytes []byte // canonical; empty means nothing
}

// domain begins every signed text, so that a signature of a payload is one of nothing else.
const domain = "coppice/rounds/payload/v1"

// field appends b with its length before it.
func field(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

// content returns everything of a payload that is not its signature.
func (p Payload) content() []byte {
	b := field(nil, []byte(p.Agent))
	b = field(b, []byte(p.Label))
	b = binary.AppendUvarint(b, p.Count)
	b = binary.AppendUvarint(b, unixMilli(p.ValidUntil))
	return field(b, p.Bytes)
}

// unixMilli returns a time as Unix milliseconds, and 0 for the zero time.
func unixMilli(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

// signed returns the text that the agent signs. It names the chain, so that a payload means nothing
// on another one. The name is that of genesis.json, which resets do not change.
func (p Payload) signed(chain string) []byte {
	return append(field(field(nil, []byte(domain)), []byte(chain)), p.content()...)
}

// Nonce returns the nonce of the payload's transaction: the same for all that an agent can say for
// one count, so that a behaviour that sends again sends the same transaction.
func (p Payload) Nonce(chain string) []byte {
	b := field(field(nil, []byte(chain)), []byte(p.Label))
	b = field(binary.AppendUvarint(b, p.Count), []byte(p.Agent))
	sum := sha256.Sum256(b)
	return sum[:]
}

// Sign returns the body of the payload's transaction: the signature, and then the content.
func (p Payload) Sign(chain string, key ed25519.PrivateKey) []byte {
	return append(ed25519.Sign(key, p.signed(chain)), p.content()...)
}

// Tx returns the payload's transaction, signed with the agent's key.
func (p Payload) Tx(chainID string, key ed25519.PrivateKey) chain.Tx {
	return chain.Tx{Backend: Backend, Nonce: p.Nonce(chainID), ValidUntil: p.ValidUntil, Body: p.Sign(chainID, key)}
}

// CheckSeal returns an ErrPayload unless tx is the transaction of the payload, or one of those of
// the tick, in its body, on a chain with the given name and window. The signature is not verified.
func CheckSeal(chainID string, window time.Duration, tx chain.Tx) error {
	if t, tick := DecodeTick(tx.Body); tick {
		return t.checkSeal(window, tx)
	}

	p, err := parse(tx.Body)
	switch {
	case err != nil:
		return err
	case !p.ValidUntil.Equal(tx.ValidUntil):
		return fmt.Errorf("%w: its transaction is valid until %v, and it was signed for %v", ErrPayload,
			tx.ValidUntil.UTC(), p.ValidUntil)
	case !bytes.Equal(p.Nonce(chainID), tx.Nonce):
		return fmt.Errorf("%w: the nonce of its transaction is not that of the agent, the label and the count",
			ErrPayload)
	default:
		return nil
	}
}

// Open returns the payload of a transaction's body. It returns an ErrPayload if the body is
// malformed, if key returns no key for the agent, or if the signature is not the agent's.
func Open(chain string, body []byte, key func(Agent) (ed25519.PublicKey, bool)) (Payload, error) {
	p, err := parse(body)
	if err != nil {
		return Payload{}, err
	}

	public, ok := key(p.Agent)
	switch {
	case !ok:
		return Payload{}, fmt.Errorf("%w: %.64q is no registered agent", ErrPayload, p.Agent)
	case !ed25519.Verify(public, p.signed(chain), body[:ed25519.SignatureSize]):
		return Payload{}, fmt.Errorf("%w: the signature is not that of %s for chain %s", ErrPayload, p.Agent, chain)
	default:
		return p, nil
	}
}

// AgentOf returns the agent that a transaction's body names; it is empty for a tick, and for a body
// that is malformed. It does not verify the signature.
func AgentOf(body []byte) Agent {
	if _, tick := DecodeTick(body); tick {
		return ""
	}
	p, err := parse(body)
	if err != nil {
		return ""
	}
	return p.Agent
}

func parse(body []byte) (p Payload, err error) {
	if len(body) < ed25519.SignatureSize {
		return p, fmt.Errorf("%w: %d bytes are fewer than a signature has", ErrPayload, len(body))
	}

	r := reader{rest: body[ed25519.SignatureSize:]}
	p.Agent, p.Label = Agent(r.field()), string(r.field())
	p.Count = r.uvarint()
	if until := r.uvarint(); until > 0 {
		p.ValidUntil = time.UnixMilli(int64(until)).UTC()
	}
	p.Bytes = r.field()

	switch {
	case r.broken:
		return p, fmt.Errorf("%w: it ends in the middle of a field", ErrPayload)
	case len(r.rest) > 0:
		return p, fmt.Errorf("%w: %d bytes follow its end", ErrPayload, len(r.rest))
	case string(p.content()) != string(body[ed25519.SignatureSize:]):
		return p, fmt.Errorf("%w: a length is not in its shortest form", ErrPayload)
	default:
		return p, nil
	}
}

type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) field() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.broken, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
