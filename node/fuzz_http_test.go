package node_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/nodetest"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// contentTypes has every codec and protocol that the API speaks, and some that it does not.
var contentTypes = []string{
	"application/json", "application/proto", "application/connect+json", "application/connect+proto",
	"application/grpc",
	"application/grpc-web+proto", "application/grpc+json", "text/plain", "",
}

// methods returns all calls of the API, from its descriptors.
func methods() (all []protoreflect.MethodDescriptor) {
	for _, file := range []protoreflect.FileDescriptor{apiv1.File_coppice_api_v1_node_proto,
		apiv1.File_coppice_api_v1_admin_proto} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				all = append(all, s.Methods().Get(j))
			}
		}
	}
	return all
}

// request is one input of the fuzzer as HTTP.
func request(method protoreflect.MethodDescriptor, codec, wrap uint8, body []byte) (*http.Request, error) {
	kind := contentTypes[int(codec)%len(contentTypes)]
	encoding := ""

	switch wrap % 4 {
	case 1: // an envelope, as streams have it
		head := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
		body = append(head, body...)

	case 2:
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(body)
		if err := z.Close(); err != nil {
			return nil, err
		}
		body, encoding = b.Bytes(), "gzip"

	case 3: // said to be compressed
		encoding = "gzip"
	}

	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	r, err := http.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	r.Header.Set("Content-Type", kind)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}

	return r, nil
}

// incarnations returns the incarnation of every child except the workers. None of them may be
// replaced because of a client's request.
func incarnations(t supervisor.Tree) string {
	var b strings.Builder
	var walk func(supervisor.Tree)
	walk = func(t supervisor.Tree) {
		fmt.Fprintf(&b, "%s %d\n", t.Path, t.Incarnation)
		if t.Kind == supervisor.DynamicKind {
			return
		}
		for _, c := range t.Children {
			walk(c)
		}
	}
	walk(t)
	return b.String()
}

// malformed has the messages about a frame that does not match its head.
var malformed = []string{"protocol error", "corrupt response", "unmarshal end stream message"}

// broken returns how an answer says that the node is at fault, or "" if it does not. Streams of
// gRPC and Connect have their status in the trailer or in the last message. There these protocols
// also call a frame "internal" that does not match its head: malformed recognizes those.
func broken(res *http.Response, answer []byte) string {
	isMalformed := func(text string) bool {
		return slices.ContainsFunc(malformed, func(m string) bool { return strings.Contains(text, m) })
	}

	if res.StatusCode >= 500 && res.StatusCode != http.StatusNotImplemented {
		return "a 5xx"
	}

	for _, h := range []http.Header{res.Header, res.Trailer} {
		if s := h.Get("Grpc-Status"); (s == "13" || s == "2") && !isMalformed(h.Get("Grpc-Message")) {
			return "gRPC status " + s + ": " + h.Get("Grpc-Message")
		}
	}

	for _, code := range []string{`"code":"internal"`, `"code":"unknown"`} {
		if bytes.Contains(answer, []byte(code)) && !isMalformed(string(answer)) {
			return code
		}
	}

	return ""
}

// Any request to a whole node, with any method and codec, is answered, and not with a 5xx (I10).
// The exception is 501, with which the protocol refuses an unknown compression. Nothing in the tree
// is replaced.
func FuzzHTTPBodies(f *testing.F) {
	n := nodetest.Start(f)
	base, tree := "http://"+n.Address(), n.Supervisor()
	before := incarnations(tree.Tree())
	client := &http.Client{Transport: &http.Transport{}}
	f.Cleanup(client.CloseIdleConnections)

	all := methods()
	body, err := kv.Encode(kv.Put([]byte("k"), []byte("v")), kv.Add([]byte("n"), 1))
	if err != nil {
		f.Fatal(err)
	}
	tx, err := chain.NewTx(kv.Name, body, time.Minute).Encode()
	if err != nil {
		f.Fatal(err)
	}

	for i, seed := range []proto.Message{
		&apiv1.SubmitRequest{Txs: [][]byte{tx, []byte("k=v")}, Wait: apiv1.Wait_WAIT_RESULT,
			Timeout: durationpb.New(time.Second)},
		&apiv1.GetTxRequest{Id: make([]byte, 32), Wait: durationpb.New(time.Millisecond)},
		&apiv1.GetRequest{Keys: [][]byte{[]byte("k")}, Height: 1},
		&apiv1.StatusRequest{},
		&apiv1.FollowRequest{After: 1, Kinds: []string{"TxLaunched"}},
		&apiv1.KillRequest{Path: "coppice", How: apiv1.How_HOW_PANIC},
	} {
		text, err := protojson.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		wire, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}

		for codec := range contentTypes {
			f.Add(uint8(i), uint8(codec), uint8(codec), text)
			f.Add(uint8(i), uint8(codec), uint8(codec+1), wire)
		}
	}

	for i := range all {
		f.Add(uint8(i), uint8(0), uint8(0), []byte(`{"`))
		f.Add(uint8(i), uint8(1), uint8(0), []byte{0xff})
	}

	f.Fuzz(func(t *testing.T, which, codec, wrap uint8, body []byte) {
		method := all[int(which)%len(all)]
		r, err := request(method, codec, wrap, body)
		if err != nil {
			t.Fatal(err)
		}

		limit := 20 * time.Second
		if method.IsStreamingServer() {
			limit = 20 * time.Millisecond // a stream that was accepted has no end
		}

		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()

		r = r.WithContext(ctx)
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(base, "http://")

		res, err := client.Do(r)
		if err != nil {
			if !(method.IsStreamingServer() && errors.Is(err, context.DeadlineExceeded)) {
				t.Fatalf("%s was not answered: %v", method.FullName(), err)
			}
		} else {
			answer, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if problem := broken(res, answer); problem != "" {
				t.Fatalf("%s: %s: %s\n%.500q", method.FullName(), res.Status, problem, answer)
			}
		}

		if now := incarnations(tree.Tree()); now != before {
			t.Fatalf("%s changed the tree from\n%s\nto\n%s", method.FullName(), before, now)
		}
	})
}
