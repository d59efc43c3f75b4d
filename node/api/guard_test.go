package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/coppice-go/coppice/node/api"
)

const (
	submitProcedure = "/coppice.api.v1.NodeService/Submit"
	statusProcedure = "/coppice.api.v1.NodeService/Status"
	killProcedure   = "/coppice.api.v1.AdminService/Kill"
)

// tokens are those of a home in which the admin token and the submit token were replaced: one an
// hour ago and one now.
func tokens() api.Tokens {
	return api.Fixed(
		api.Token{Access: api.ReadAccess, Secret: "read"},
		api.Token{Access: api.SubmitAccess, Secret: "submit"},
		api.Token{Access: api.SubmitAccess, Secret: "submit-old", Expires: time.Now().Add(time.Hour)},
		api.Token{Access: api.AdminAccess, Secret: "admin"},
		api.Token{Access: api.AdminAccess, Secret: "admin-old", Expires: time.Now().Add(-time.Hour)},
	)
}

func ask(t *testing.T, h http.Handler, path, token string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}

	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}

	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)

	return w.Code, string(body)
}

// Each refusal names the token that was given, the one that is wanted, and the file that has it.
func TestATokenAllowsItsLevelAndThoseBelow(t *testing.T) {
	for _, tt := range []struct {
		path, token string
		beyond      int // the status on a listener that other machines can reach
		loopback    int
		text        string // beyond
	}{
		{"/metrics", "", 401, 200, "the token is in the file read.token of the node's home"},
		{"/metrics", "wrong", 403, 200, "this is not the node's token (the token is in the file read.token"},
		{"/metrics", "read", 200, 200, ""},
		{"/metrics", "submit-old", 200, 200, ""},
		{"/metrics", "admin-old", 403, 200, "it was replaced, and expired at 20"},
		{"/healthz", "", 200, 200, ""},
		{"/healthz", "wrong", 200, 200, ""},
		{statusProcedure, "read", 200, 200, ""},
		{statusProcedure, "admin", 200, 200, ""},
		{submitProcedure, "", 401, 200, "submit.token of the node's home"},
		{submitProcedure, "read", 403, 403, "this is the node's read-only token, want the submit token (the token is " +
			"in the file submit.token"},
		{submitProcedure, "submit", 200, 200, ""},
		{submitProcedure, "submit-old", 200, 200, ""},
		{submitProcedure, "admin", 200, 200, ""},
		{killProcedure, "", 401, 200, "admin.token of the node's home"}, // on loopback the service itself refuses
		{killProcedure, "read", 403, 403, "this is the node's read-only token, want the admin token"},
		{killProcedure, "submit", 403, 403, "want the admin token (the token is in the file admin.token"},
		{killProcedure, "admin", 200, 200, ""},
		{"/coppice.api.v1.NodeService/OfTomorrow", "submit", 403, 403, "want the admin token"},
	} {
		for all, want := range map[bool]int{true: tt.beyond, false: tt.loopback} {
			t.Run(fmt.Sprintf("%s %s %t", tt.path, tt.token, all), func(t *testing.T) {
				h := api.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), tokens(), all,
					api.Login{}, "/healthz")
				status, body := ask(t, h, tt.path, tt.token)
				require.Equal(t, want, status, body)
				if status != 200 {
					require.Contains(t, body, tt.text)
				}
			})
		}
	}
}

// A home without a read-only token and a submit token names the file that it has.
func TestOnlyFilesThatAreThereAreNamed(t *testing.T) {
	h := api.Guard(http.NotFoundHandler(), admin("secret"), true, api.Login{})
	_, body := ask(t, h, submitProcedure, "")
	require.Contains(t, body, "the token is in the file admin.token")
}

// A consistent read submits a transaction.
func TestAReadOnlyTokenOrdersNothing(t *testing.T) {
	n := newFakeNode()
	_, node := api.NodeHandler(n, api.NodeOptions{})
	h := api.Guard(node, tokens(), true, api.Login{})
	get := func(token, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/coppice.api.v1.NodeService/Get", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}

	code, text := get("read", `{"keys":["YQ=="]}`)
	require.Equal(t, 200, code, text)
	code, text = get("read", `{"keys":["YQ=="],"consistent":true}`)
	require.Equal(t, 403, code, text)
	require.Contains(t, text, "want the submit token")
	require.Empty(t, n.calls)
}

// A procedure without a row needs the admin token, so one that is forgotten is safe, but of no use
// to those who only read.
func TestEveryProcedureHasItsAccess(t *testing.T) {
	protoregistry.GlobalFiles.RangeFilesByPackage("coppice.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				procedure := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
				require.Contains(t, api.Procedures, procedure, "add it to the table in access.go")
			}
		}
		return true
	})
}

// A page of another site must not act through the browser of somebody who may reach the node. A
// page can set neither header.
func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	const ok, no = http.StatusOK, http.StatusForbidden

	for _, tt := range []struct {
		name   string
		header []string
		api    int
		other  int
	}{
		{"no browser", nil, ok, ok},
		{"own page", []string{"Origin", "http://node.example:7070"}, ok, ok},
		{"own page, as the browser knows",
			[]string{"Sec-Fetch-Site", "same-origin", "Origin", "https://proxy.example"}, ok, ok},
		{"typed in", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, ok, ok},
		{"link", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, no, ok},
		{"image", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, no, no},
		{"page of another site", []string{"Sec-Fetch-Site", "cross-site"}, no, no},
		{"page of another port", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://node.example:3000"}, no, no},
		{"page of another origin", []string{"Origin", "http://evil.example"}, no, no},
		{"page of another port, old browser", []string{"Origin", "http://node.example:3000"}, no, no},
		{"sandboxed page", []string{"Origin", "null"}, no, no},
		{"garbage", []string{"Origin", "://"}, no, no},
		{"allowed", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://App.example"}, ok, ok},
		{"a longer name", []string{"Origin", "https://app.example.evil.example"}, no, no},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := api.SameOrigin(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
				func() []string { return []string{"https://app.example"} })

			for path, want := range map[string]int{"/coppice.api.v1.NodeService/Get": tt.api, "/events": tt.other} {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Host = "node.example:7070"
				for i := 0; i+1 < len(tt.header); i += 2 {
					r.Header.Set(tt.header[i], tt.header[i+1])
				}

				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				require.Equal(t, want, w.Code, w.Body.String())
				if want == no {
					require.Contains(t, w.Body.String(), "proxy_set_header Host $http_host;")
				}
			}
		})
	}
}
