package dashboard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"sync"
	"time"

	"github.com/coppice-go/coppice/node/api"
)

const (
	linkLife    = 5 * time.Minute
	sessionLife = 12 * time.Hour
	cookieName  = "coppice_dashboard"

	// mostSessions bounds the sessions of a process.
	mostSessions = 1000

	// mostForm bounds the bytes of a form.
	mostForm = 16 << 10
)

// Code returns a code that begins one session at a node whose admin token is secret, within five
// minutes. It is the part of a link behind "#", which a browser sends to nobody.
func Code(secret string, now time.Time) string {
	b := make([]byte, 24, 56)
	rand.Read(b[:16]) // it never fails
	binary.BigEndian.PutUint64(b[16:], uint64(now.Add(linkLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, sign(secret, b)...))
}

func sign(secret string, b []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("coppice dashboard link\n"))
	m.Write(b)
	return m.Sum(nil)
}

// sessions are those who came by a link or with a token. A session ends with the token that began
// it.
type sessions struct {
	mu   sync.Mutex
	used map[string]time.Time // codes that have begun a session, until they expire
	open map[[32]byte]session // by the hash of the cookie
}

type session struct {
	access api.Access
	secret [32]byte // hash of the token that began it
	until  time.Time
}

// enter begins a session with the code of a link, and returns its cookie. ok is false if the code
// is not one of this node, has expired or was used.
func (s *sessions) enter(code string, tokens api.Tokens, now time.Time) (cookie string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil || len(b) != 56 {
		return "", false
	}

	until := time.Unix(int64(binary.BigEndian.Uint64(b[16:])), 0)
	if !now.Before(until) || until.Sub(now) > linkLife+time.Minute {
		return "", false
	}
	var by api.Token
	for _, t := range valid(tokens, now) {
		if t.Access == api.AdminAccess && hmac.Equal(b[24:], sign(t.Secret, b[:24])) {
			by, ok = t, true
		}
	}
	if !ok {
		return "", false
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	if _, twice := s.used[string(b)]; twice {
		return "", false
	}
	if cookie, ok = s.begin(by, now); ok {
		s.used[string(b)] = until
	}

	return cookie, ok
}

// enterWith begins a session with a token, which may do what the token allows.
func (s *sessions) enterWith(secret string, tokens api.Tokens, now time.Time) (cookie string, ok bool) {
	var by api.Token
	got := sha256.Sum256([]byte(secret))
	for _, t := range valid(tokens, now) {
		want := sha256.Sum256([]byte(t.Secret))
		if hmac.Equal(got[:], want[:]) && t.Access >= by.Access {
			by, ok = t, true
		}
	}
	if !ok {
		return "", false
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	return s.begin(by, now)
}

// valid returns the tokens that may be used now.
func valid(tokens api.Tokens, now time.Time) (list []api.Token) {
	if tokens == nil {
		return nil
	}
	for _, t := range tokens() {
		if t.Secret != "" && (t.Expires.IsZero() || now.Before(t.Expires)) {
			list = append(list, t)
		}
	}
	return list
}

// begin makes a session. s.mu is held.
func (s *sessions) begin(by api.Token, now time.Time) (cookie string, ok bool) {
	if len(s.open) >= mostSessions {
		return "", false
	}
	cookie = rand.Text()
	s.open[sha256.Sum256([]byte(cookie))] = session{by.Access, sha256.Sum256([]byte(by.Secret)), now.Add(sessionLife)}
	return cookie, true
}

// forget drops what has expired. s.mu is held.
func (s *sessions) forget(now time.Time) {
	if s.used == nil {
		s.used, s.open = map[string]time.Time{}, map[[32]byte]session{}
	}
	for c, end := range s.used {
		if !now.Before(end) {
			delete(s.used, c)
		}
	}
	for c, x := range s.open {
		if !now.Before(x.until) {
			delete(s.open, c)
		}
	}
}

// access returns what the session with a cookie allows. A session whose token was replaced and has
// expired since, or was removed, is over.
func (s *sessions) access(cookie string, tokens api.Tokens, now time.Time) (a api.Access, ok bool) {
	s.mu.Lock()
	x, ok := s.open[sha256.Sum256([]byte(cookie))]
	s.mu.Unlock()
	if !ok || !now.Before(x.until) {
		return 0, false
	}

	for _, t := range valid(tokens, now) {
		if t.Access == x.access && sha256.Sum256([]byte(t.Secret)) == x.secret {
			return x.access, true
		}
	}
	return 0, false
}

// Access returns what the session of a request allows; ok is false if it has none.
func (d *Dashboard) Access(r *http.Request) (a api.Access, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return 0, false
	}
	return d.sessions.access(c.Value, d.Tokens, time.Now())
}

// Login says how a browser gets past the guard of a listener that wants a token with each request:
// by a session, whose cookie counts for the dashboard only. The page that begins one needs none.
func (d *Dashboard) Login() api.Login {
	if d.Mode == Off {
		return api.Login{}
	}
	return api.Login{Below: Path, Page: Path + "login", Access: d.Access,
		Open: []string{Path + "login", Path + "login.js", Path + "eyes.css", Path + "session"}}
}

// mayAct reports whether a request may change something: in the mode Full, within a session of the
// admin token.
func (d *Dashboard) mayAct(r *http.Request) bool {
	a, ok := d.Access(r)
	return d.Mode == Full && ok && a == api.AdminAccess
}

// begin answers the script of the login page, which sends the code of a link, and the form of that
// page, which sends a token.
func (d *Dashboard) begin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if token := r.PostFormValue("token"); token != "" {
		cookie, ok := d.sessions.enterWith(token, d.Tokens, time.Now())
		if !ok {
			http.Redirect(w, r, Path+"login?refused", http.StatusSeeOther)
			return
		}
		d.setCookie(w, r, cookie)
		http.Redirect(w, r, Path, http.StatusSeeOther)
		return
	}

	if r.Header.Get("X-Coppice") == "" {
		http.Error(w, "want the header X-Coppice", http.StatusForbidden)
		return
	}
	cookie, ok := d.sessions.enter(r.PostFormValue("code"), d.Tokens, time.Now())
	if !ok {
		http.Error(w, "the link has expired, was used, or is not of this node; 'coppice dashboard' prints another",
			http.StatusForbidden)
		return
	}

	d.setCookie(w, r, cookie)
	w.WriteHeader(http.StatusNoContent)
}

func (d *Dashboard) setCookie(w http.ResponseWriter, r *http.Request, cookie string) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: Path, HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteStrictMode, MaxAge: int(sessionLife / time.Second)})
}
