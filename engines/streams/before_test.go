package streams

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// oldState is a state whose keys have had the value "old", from a height on.
type oldState struct {
	has    string // the keys that were there, each a byte
	value  string
	oldest uint64
	asked  []string
}

func (o *oldState) At(_ context.Context, key []byte, at Position) ([]byte, bool, error) {
	o.asked = append(o.asked, fmt.Sprintf("%s@%s", key, at))
	if at.Height < o.oldest {
		return nil, false, ErrNoVersion
	}
	return []byte(o.value), strings.Contains(o.has, string(key)), nil
}

func (o *oldState) Oldest(context.Context) (Position, error) { return Position{Height: o.oldest}, nil }

// changes appends a block whose transaction makes these changes: "k=v" puts, "k" deletes.
func (r *rig) changes(list ...string) {
	r.height++
	version := &logv1.Version{Height: r.height}
	d := &logv1.OrderDecided{ChainId: "c", Height: r.height, BlockHash: fmt.Append(nil, "block", r.height),
		Txs: [][]byte{[]byte("no transaction")}}
	c := &logv1.BlockCommitted{ChainId: "c", Height: r.height, BlockHash: d.BlockHash,
		AppHash: fmt.Append(nil, "app", r.height), Results: []*logv1.TxResult{{Id: []byte("id"), Version: version}}}
	for _, text := range list {
		key, value, put := strings.Cut(text, "=")
		c.Changes = append(c.Changes, &logv1.Change{Version: version, Key: []byte(key), Value: []byte(value),
			Delete: !put})
	}
	r.append(d, c)
}

// befores returns what the changes of a place say of the values before them.
func (p *place) befores() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if c, ok := e.Body.(*Change); ok {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Key, c.Before.State, c.Before.Value)))
		}
	}
	return list
}

// digests returns the digests of the units.
func (p *place) digests() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if end, ok := e.Body.(*End); ok {
			list = append(list, string(end.Digest))
		}
	}
	return list
}

// R16: the value before a change is that of the key's earlier change in the block, else of the
// state at the height before. It is outside of the digest, says so if the node does not have it,
// and is left out where it has no room in an event of the sink.
func TestValuesBeforeChanges(t *testing.T) {
	r := newRig(t)
	state := &oldState{has: "abL", value: "old", oldest: 1}
	r.opts = func(o *Options) { o.Versions = state }
	r.start()
	r.define("out", "before = true\n")
	r.define("plain", "")
	r.up()
	r.changes("a=0")
	r.reaches("out")
	require.Equal(t, []string{"a unavailable"}, r.sinks["out"].befores(), "the state at height 0 is gone")

	r.changes("a=1", "b", "c=2", "a=3", "b=4", "a", "L="+strings.Repeat("x", 1001), "M="+strings.Repeat("x", 998))
	r.reaches("out")
	r.reaches("plain")
	require.Equal(t, []string{"a unavailable", "a value old", "b value old", "c absent", "a value 1", "b absent",
		"a value 3", "L too_large", "L too_large", "M absent"}, r.sinks["out"].befores())
	require.Contains(t, state.asked, "a@1")
	require.Equal(t, r.sinks["plain"].digests(), r.sinks["out"].digests())
	require.NotContains(t, strings.Join(r.sinks["plain"].befores(), ","), "value")

	report, err := r.streams.Verify(t.Context(), "out", Position{}, Position{Height: 9})
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

// R16: a slot that wants values before changes holds back the pruning of versions, up to where its
// sink stands and over a restart; another one does not.
func TestASlotHoldsBackThePruningOfVersions(t *testing.T) {
	r := newRig(t)
	r.opts = func(o *Options) { o.Versions = &oldState{} }
	r.start()
	r.define("plain", "keep_behind = \"0s\"\n")
	r.up()
	_, held := r.streams.HoldsVersions()
	require.False(t, held)
	r.down()

	r.define("out", "before = true\nkeep_behind = \"0s\"\n")
	r.up()
	at, held := r.streams.HoldsVersions()
	require.True(t, held)
	require.Zero(t, at)
	r.block("a")
	r.block("a")
	r.reaches("out")
	holds := func() bool {
		at, held := r.streams.HoldsVersions()
		return held && at.Height == 2
	}
	require.Eventually(t, holds, 10*time.Second, time.Millisecond)
	r.down()

	at, held, err := HeldVersions(r.options().Data)
	require.NoError(t, err)
	require.True(t, held)
	require.EqualValues(t, 2, at.Height)
	s, err := New(r.options())
	require.NoError(t, err)
	at, held = s.HoldsVersions()
	require.True(t, held)
	require.EqualValues(t, 2, at.Height)
}

// R18: with changed=value, what is delivered depends on the values before. A node that lacks one
// does not guess: another one goes on.
func TestAFilterOfValuesNeedsThem(t *testing.T) {
	r := newRig(t)
	state := &oldState{has: "a", value: "same", oldest: 0}
	r.opts = func(o *Options) { o.Versions = state }
	r.start()
	r.define("out", "before = true\nfilter = [\"changed=value\"]\n")
	r.up()
	r.changes("a=same", "a=other", "a=other")
	r.reaches("out")
	require.Equal(t, []string{"a value same"}, r.sinks["out"].befores())
	report, err := r.streams.Verify(t.Context(), "out", Position{}, Position{Height: 9})
	require.NoError(t, err)
	require.Empty(t, report.Findings)

	state.oldest = 5
	r.changes("a=other")
	st := r.becomes("out", InGap)
	require.Contains(t, st.Last.Text, "the state does not have the version")
	r.down()

	r.define("out", "filter = [\"changed=value\"]\n")
	_, err = New(r.options())
	require.ErrorContains(t, err, "wants before = true")
	r.opts = nil
	r.define("out", "before = true\n")
	_, err = New(r.options())
	require.ErrorContains(t, err, "before is not possible")
}

// account is a file of descriptors with one message.
func account(field string) []byte {
	str := func(s string) *string { return &s }
	of, label := descriptorpb.FieldDescriptorProto_TYPE_INT64, descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{Name: str("bank.proto"),
		Package: str("bank"), Syntax: str("proto3"), MessageType: []*descriptorpb.DescriptorProto{{Name: str("Account"),
			Field: []*descriptorpb.FieldDescriptorProto{{Name: &field, Number: proto.Int32(1), Type: &of, Label: &label,
				JsonName: &field}}}}}}}
	b, err := proto.Marshal(set)
	if err != nil {
		panic(err)
	}
	return b
}

// R19 and R26: the codec proto reads a message by a file of descriptors, refuses what is none, and
// another file is another definition.
func TestACodecReadsProtobufByItsDescriptors(t *testing.T) {
	r := newRig(t)
	r.start()
	r.define("out", "codecs = { \"account/\" = \"proto:bank.binpb#bank.Account\" }\non_reject = \"park\"\n")
	r.up()
	require.Contains(t, r.becomes("out", Failed).Last.Text, "out.toml:2:1: codecs names a file")
	r.down()

	file := filepath.Join(r.dir, "streams", "bank.binpb")
	require.NoError(t, os.WriteFile(file, []byte("none"), 0o600))
	_, err := New(r.options())
	require.ErrorContains(t, err, "not a FileDescriptorSet")
	require.NoError(t, os.WriteFile(file, account("balance"), 0o600))
	r.up()
	r.changes("account/a=\x08\x2a", "account/b=\xff", "other=\xff")
	r.reaches("out")
	lines := r.sinks["out"].text()
	has := func(part string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, part) })
	}
	require.True(t, has(`"decoded":{"balance":"42"}`), "%s", lines)
	require.True(t, has("not a bank.Account"), "%s", lines)
	before := r.becomes("out", Degraded).Definition

	require.NoError(t, os.WriteFile(file, account("amount"), 0o600))
	require.NoError(t, r.streams.Reload())
	st := r.becomes("out", Failed)
	require.Contains(t, st.Last.Text, before)

	for _, bad := range []string{"proto:bank.binpb", "proto:bank.binpb#bank.None", "proto:#bank.Account"} {
		r.define("bad", "codecs = { \"a\" = \""+bad+"\" }\n")
		_, err = New(r.options())
		require.ErrorContains(t, err, "bad.toml:2:1: codecs", bad)
	}
}
