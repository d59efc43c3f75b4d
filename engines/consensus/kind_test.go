package consensus

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// labelled is a kind with a name and one class of errors.
type labelled struct {
	name  string
	class func(error) Class
}

func (k labelled) Name() string            { return k.name }
func (k labelled) Traits() Traits          { return Traits{Class: k.class} }
func (labelled) Open(Home) (Driver, error) { return nil, errors.ErrUnsupported }
func of(name string, err error) labelled   { return labelled{name, one(err, Damage)} }
func one(is error, c Class) func(error) Class {
	return func(err error) Class {
		if errors.Is(err, is) {
			return c
		}
		return None
	}
}

func TestKindsAreRegisteredByName(t *testing.T) {
	t.Cleanup(func() { registry.kinds = nil })
	_, ok := Lookup("one")
	require.False(t, ok)
	require.Empty(t, Kinds())

	first, second := errors.New("first"), errors.New("second")
	Register(of("one", first), of("two", second))
	k, ok := Lookup("two")
	require.True(t, ok)
	require.Equal(t, "two", k.Name())
	require.Equal(t, Damage, Classify(fmt.Errorf("wrapped: %w", first)))
	require.Equal(t, None, Classify(errors.New("another")))

	Register(labelled{"one", one(first, Config)}, labelled{name: "three"})
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name())
	}
	require.Equal(t, []string{"one", "two", "three"}, names, "a kind with a known name takes its place")
	require.Equal(t, Config, Classify(first))
	require.Equal(t, Damage, Classify(second))
}
