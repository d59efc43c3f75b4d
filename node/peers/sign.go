package peers

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Domains of the signatures. None is a beginning of another, and none is used for other messages
// that an agent signs.
const (
	standingDomain = "coppice: standing of a node\n"
	pointDomain    = "coppice: point of a reset\n"
)

// ErrSignature is the error for an answer whose signature is not that of an agent of the chain.
var ErrSignature = errors.New("signature of a peer's agent")

// Agent is the agent of a node. The zero Agent signs nothing.
type Agent struct {
	Name string
	Key  ed25519.PrivateKey
}

// sign returns the bytes of m and the agent's signature of them, which is nil for the zero Agent.
func (a Agent) sign(domain string, m proto.Message) ([]byte, *apiv1.AgentSignature, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || a.Name == "" {
		return b, nil, err
	}
	return b, &apiv1.AgentSignature{Agent: a.Name, Signature: ed25519.Sign(a.Key, append([]byte(domain), b...))}, nil
}

// verify returns the agent that has signed b, or "" if nobody has. Errors are ErrSignature.
func verify(agents []chain.Agent, domain string, b []byte, s *apiv1.AgentSignature) (agent string, err error) {
	if s == nil {
		return "", nil
	}

	for _, a := range agents {
		if a.Name != s.Agent {
			continue
		}
		if !ed25519.Verify(ed25519.PublicKey(a.Key), append([]byte(domain), b...), s.Signature) {
			return "", fmt.Errorf("%w: that of %q does not fit", ErrSignature, a.Name)
		}
		return a.Name, nil
	}

	return "", fmt.Errorf("%w: no agent of genesis.json has the name %.50q", ErrSignature, s.Agent)
}
