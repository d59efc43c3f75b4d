package rounds_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// Samples of a type are canonical, differ, and go into what the type holds.
func TestSamples(t *testing.T) {
	type inner struct {
		Name string `json:"name"`
	}
	type price struct {
		Cents  int            `json:"cents"`
		Source *inner         `json:"source"`
		Tags   []string       `json:"tags"`
		By     map[string]int `json:"by"`
		Secret int            `json:"-"`
	}

	require.Equal(t, []string{"", "0", "1", "-1"}, samplesOf[int]())
	require.Equal(t, []string{"", `""`, `"a"`}, samplesOf[string]())
	require.Equal(t, []string{"", "false", "true"}, samplesOf[bool]())
	require.Equal(t, []string{"", "null"}, samplesOf[any]())
	require.Equal(t, []string{"", `{"cents":0,"source":null,"tags":null,"by":null}`,
		`{"cents":1,"source":{"name":"a"},"tags":[],"by":{"a":-1}}`,
		`{"cents":-1,"source":{"name":"a"},"tags":["a"],"by":{"a":-1}}`}, samplesOf[price]())

	// A type that contains itself has an end.
	type tree struct{ Left, Right *tree }
	require.NotEmpty(t, samplesOf[tree]())

	require.Equal(t, []string{`"yes"`, `"no"`, `"abstain"`}, texts(rounds.Samples(rounds.Voting[int](nil, nil))))
	require.Equal(t, []string{"", "0", "1", `"a"`, "true"}, texts(rounds.Samples(rounds.Final[int]())))
}

func samplesOf[P any]() []string {
	return texts(rounds.Samples(rounds.Rejoin(rounds.Same(func(context.Context, int) (p P, err error) { return p, nil },
		func(n int, _ P) int { return n }))))
}

func texts(samples [][]byte) (out []string) {
	for _, b := range samples {
		out = append(out, string(b))
	}
	return out
}
