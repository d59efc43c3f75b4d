package manager

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// API is the HTTP API of a machine.
type API struct {
	Machine *Machine

	// Token, if set, must be in the header of each request, as "authorization: Bearer TOKEN".
	Token string

	// TokenFile, if set, has the token in place of Token. It is read at each request, so that a
	// token can be replaced.
	TokenFile string

	// Local reports whether the listener is on loopback. A page in a browser of this machine could
	// then reach it, so requests that a foreign page has caused are refused.
	Local bool

	// Log takes what went wrong inside; nil discards it.
	Log func(string)
}

// mostOfBody bounds the body of a POST /params.
const mostOfBody = 4 << 20

// bodyTime bounds the time that a body takes. A request may then wait longer for its turn.
const bodyTime = 30 * time.Second

// waitTime is how long a request for new events waits for one.
const waitTime = 25 * time.Second

// Handler returns the API as a handler. Errors that are foreseen have status 200, because existing
// clients read the body.
func (a *API) Handler() http.Handler {
	routes := map[string]map[string]http.HandlerFunc{
		"/params":       {http.MethodGet: a.params, http.MethodPost: a.setParams},
		"/gentle_reset": {http.MethodGet: a.gentle},
		"/hard_reset":   {http.MethodGet: a.hard},
		"/app_hash":     {http.MethodGet: a.appHash},
		"/status":       {http.MethodGet: a.status},
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.recovered(w)

		if status, text := a.refusal(r); status != 0 {
			plain(w, status, text)
			return
		}
		methods, ok := routes[r.URL.Path]
		if !ok {
			plain(w, http.StatusNotFound, "Not Found")
			return
		}
		serve, ok := methods[r.Method]
		if !ok {
			for m := range methods {
				w.Header().Add("Allow", m)
			}
			plain(w, http.StatusMethodNotAllowed, "Method Not Allowed")
			return
		}

		serve(w, r)
	})
}

// recovered answers a request during which the handler has panicked.
func (a *API) recovered(w http.ResponseWriter) {
	if p := recover(); p != nil {
		a.unforeseen(w, fmt.Errorf("panic: %v", p))
	}
}

// unforeseen is the answer to everything that is not foreseen.
func (a *API) unforeseen(w http.ResponseWriter, err error) {
	if a.Log != nil {
		a.Log(err.Error())
	}
	plain(w, http.StatusInternalServerError, "Error Closing Node")
}

// refusal returns the status and the text for a request that the API does not serve, or 0.
func (a *API) refusal(r *http.Request) (int, string) {
	token := a.Token
	if a.TokenFile != "" {
		data, err := os.ReadFile(a.TokenFile)
		if token = strings.TrimSpace(string(data)); err != nil || token == "" {
			return http.StatusServiceUnavailable, "Service Unavailable: the file of the token cannot be read"
		}
	}
	if token != "" {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		have, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
		if !ok || subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
			return http.StatusUnauthorized, "Unauthorized: want the header authorization: Bearer TOKEN"
		}
	}

	// A GET that changes something can be caused by any page. Browsers say where a request comes
	// from, and a page whose name was made to lead here sends that name.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" {
		return http.StatusForbidden, "Forbidden: a page in a browser has caused the request"
	}
	if a.Local && !localName(r.Host) {
		return http.StatusForbidden, "Forbidden: the request is for " + strconv.Quote(r.Host) +
			", want a name of this machine"
	}

	return 0, ""
}

// localName reports whether a request's host names this machine.
func localName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	return name == "localhost" || net.ParseIP(name) != nil
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func answer(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil { // cannot happen: the types are plain
		plain(w, http.StatusInternalServerError, "Error Closing Node")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}

func (a *API) params(w http.ResponseWriter, _ *http.Request) {
	var out struct {
		Params any     `json:"params"`
		Status bool    `json:"status"`
		Error  *string `json:"error"`
	}
	id, err := a.Machine.target.Identity()
	out.Params, out.Status = id, true
	if err != nil {
		text := err.Error()
		out.Params, out.Status, out.Error = struct{}{}, false, &text
	}
	answer(w, out)
}

func (a *API) setParams(w http.ResponseWriter, r *http.Request) {
	var out struct {
		Status bool    `json:"status"`
		Error  *string `json:"error"`
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder in a test has no deadline
	body, refused := io.ReadAll(http.MaxBytesReader(w, r.Body, mostOfBody))
	_ = control.SetReadDeadline(time.Time{})
	if refused == nil {
		var err error
		if refused, err = a.Machine.SetParams(r.Context(), body); err != nil {
			a.cut(w, r, err)
			return
		}
	}

	out.Status = refused == nil
	if refused != nil {
		text := refused.Error()
		out.Error = &text
	}
	answer(w, out)
}

func (a *API) gentle(w http.ResponseWriter, r *http.Request) {
	out, err := a.Machine.Gentle(r.Context())
	a.reset(w, r, out, err)
}

func (a *API) hard(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out, err := a.Machine.Hard(r.Context(), Reset{q.Get("genesis_time"), q.Get("initial_height"),
		q.Get("period_count")})
	a.reset(w, r, out, err)
}

func (a *API) reset(w http.ResponseWriter, r *http.Request, out Answer, err error) {
	if err != nil {
		a.cut(w, r, err)
		return
	}
	answer(w, out)
}

// cut answers a request that the machine did not get, or during which it ended.
func (a *API) cut(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the caller is gone
	}
	a.unforeseen(w, err)
}

func (a *API) appHash(w http.ResponseWriter, r *http.Request) {
	hash, err := a.Machine.target.AppHash(r.Context(), r.URL.Query().Get("height"))
	if err != nil {
		answer(w, map[string]string{"error": "Could not get the app hash: " + err.Error()})
		return
	}
	answer(w, map[string]string{"app_hash": hash})
}

// status is ours: the status, with the events after the one that the query names. With wait it
// answers when there is one, or after waitTime.
func (a *API) status(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	seq, err := strconv.ParseUint(or(q.Get("after"), "0"), 10, 64)
	if err != nil {
		plain(w, http.StatusBadRequest, "after: want the number of an event")
		return
	}
	if q.Get("wait") == "" {
		answer(w, a.Machine.Status(seq))
		return
	}

	ctx, cancel := context.WithTimeout(r.Context(), waitTime)
	defer cancel()
	answer(w, a.Machine.Wait(ctx, seq))
}
