package api_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// enumFields returns a JSON object for each enum in a message or in the messages below it, with
// value in place of the enum's, and the values that the enum has.
func enumFields(d protoreflect.MessageDescriptor, value string) (bodies []string, first []string) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		wrap := func(v string) string {
			if f.IsList() {
				v = "[" + v + "]"
			}
			return fmt.Sprintf(`{%q: %s}`, f.JSONName(), v)
		}

		switch {
		case f.Enum() != nil:
			bodies = append(bodies, wrap(value))
			first = append(first, string(f.Enum().Values().Get(0).Name()))

		case f.Message() != nil && f.Message().ParentFile().Package() != "google.protobuf":
			inner, names := enumFields(f.Message(), value)
			for _, b := range inner {
				bodies = append(bodies, wrap(b))
			}
			first = append(first, names...)
		}
	}

	return bodies, first
}

// The name of an enum that the API does not know is refused in every request of every service: it
// must not be taken for the default.
func TestAnUnknownEnumNameInJSONIsRefused(t *testing.T) {
	mux := http.NewServeMux()
	h := &fakeHost{}
	mux.Handle(api.NodeHandler(newFakeNode(), api.NodeOptions{}))
	mux.Handle(api.AdminHandler(h, "secret"))
	mux.Handle(api.SnapshotHandler(nil, "secret")) // it must not get that far
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)

	post := func(m protoreflect.MethodDescriptor, contentType, body string) string {
		if m.IsStreamingServer() {
			contentType = "application/connect+json"
			body = string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			fmt.Sprintf("%s/%s/%s", srv.URL, m.Parent().FullName(), m.Name()), bytes.NewBufferString(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Authorization", "Bearer secret")

		res, err := srv.Client().Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		if !m.IsStreamingServer() {
			require.Equal(t, http.StatusBadRequest, res.StatusCode, "%s %s", m.FullName(), body)
		}
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Contains(t, string(text), "invalid_argument", "%s %s", m.FullName(), body)

		return string(text)
	}

	methods, enums := 0, 0
	for _, file := range []protoreflect.FileDescriptor{apiv1.File_coppice_api_v1_node_proto,
		apiv1.File_coppice_api_v1_admin_proto, apiv1.File_coppice_api_v1_snapshot_proto} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				methods++

				for _, contentType := range []string{"application/json", "application/json; charset=utf-8"} {
					bodies, first := enumFields(m.Input(), `"WAIT_RESULTS"`)
					for k, body := range bodies {
						body = `{"of_a_newer_client": 1, ` + body[1:]
						text := post(m, contentType, body)
						require.Contains(t, text, `\"WAIT_RESULTS\" is unknown, want `+first[k])
						enums++
					}
				}
			}
		}
	}

	require.Empty(t, h.kills)
	require.Greater(t, methods, 10)
	require.GreaterOrEqual(t, enums, 4, "Submit has wait, and Kill has how")
}
