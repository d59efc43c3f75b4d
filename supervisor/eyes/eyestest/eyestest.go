// Package eyestest shows pages to tests in a real browser: a headless Chromium of the machine. It
// needs the standard library only.
package eyestest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Chrome is one page of a headless Chromium. It speaks the browser's DevTools protocol over a pipe.
// One goroutine may use it. A method that fails ends the test.
type Chrome struct {
	Requests []string // URLs that were asked for
	Problems []string // errors of scripts and of loading, violations of the policy
	Bytes    float64  // of all answers, as they came, with their heads

	t       testing.TB
	in      io.Writer
	session string
	id      int
	answers chan reply
	came    map[string]float64 // bytes of each answer that has not ended
}

// patience bounds every wait.
const patience = 30 * time.Second

type reply struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Session string          `json:"sessionId"`
	Error   *struct{ Message string }
}

// Browse starts a Chromium, which ends with the test. Without one the test is skipped, or fails if
// COPPICE_REQUIRE names chromium.
func Browse(t testing.TB) *Chrome {
	t.Helper()
	var path string
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if strings.Contains(","+os.Getenv("COPPICE_REQUIRE")+",", ",chromium,") {
			t.Fatal("COPPICE_REQUIRE names chromium, and there is none")
		}
		t.Skip("no Chromium on this machine")
	}

	c := &Chrome{t: t, answers: make(chan reply, 1000), came: map[string]float64{}}
	theirIn, in, err := os.Pipe()
	c.must(err)
	out, theirOut, err := os.Pipe()
	c.must(err)
	c.in = in
	profile, err := os.MkdirTemp("", "eyes-chromium") // not the test's: its processes write there until they end
	c.must(err)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	c.must(cmd.Start())
	theirIn.Close()
	theirOut.Close()

	read := make(chan struct{})
	go func() {
		defer close(read)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadBytes(0)
			if err != nil {
				close(c.answers)
				return
			}
			var m reply
			if json.Unmarshal(line[:len(line)-1], &m) == nil {
				c.answers <- m
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		go func() {
			for range c.answers { // what it still says
			}
		}()
		_ = cmd.Wait()
		_ = os.RemoveAll(profile)
		in.Close()
		out.Close()
		<-read
	})

	var target struct{ TargetID, SessionID string }
	c.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	c.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	c.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		c.Call(domain+".enable", nil, nil)
	}

	return c
}

// Call calls a method of the protocol, and keeps what the browser says meanwhile.
func (c *Chrome) Call(method string, params, result any) {
	c.t.Helper()
	c.id++
	m := map[string]any{"id": c.id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if c.session != "" {
		m["sessionId"] = c.session
	}
	data, err := json.Marshal(m)
	c.must(err)
	_, err = c.in.Write(append(data, 0))
	c.must(err)

	late := time.After(patience)
	for {
		select {
		case r, ok := <-c.answers:
			if !ok {
				c.t.Fatalf("%s: the browser has ended", method)
			}
			if r.ID != c.id {
				c.note(r)
				continue
			}
			if r.Error != nil && strings.Contains(r.Error.Message, "navigated") && method == "Runtime.evaluate" {
				return // the page that was asked is gone: the result stays as it was, and await asks the next
			}
			if r.Error != nil {
				c.t.Fatalf("%s: %s", method, r.Error.Message)
			}
			if result != nil {
				c.must(json.Unmarshal(r.Result, result))
			}
			return
		case <-late:
			c.t.Fatalf("%s: no answer within 30 s", method)
		}
	}
}

func (c *Chrome) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *Chrome) note(r reply) {
	var p struct {
		Request           struct{ URL string }
		RequestID         string
		EncodedDataLength float64
		Response          struct{ EncodedDataLength float64 }
		Entry             struct{ Level, Text string }
		ExceptionDetails  struct{ Text string }
		Type              string
	}
	_ = json.Unmarshal(r.Params, &p) // what has none of these is no news

	switch r.Method {
	case "Network.requestWillBeSent":
		c.Requests = append(c.Requests, p.Request.URL)
	case "Network.responseReceived":
		c.arrived(p.RequestID, p.Response.EncodedDataLength)
	case "Network.dataReceived":
		c.arrived(p.RequestID, p.EncodedDataLength)
	case "Network.loadingFinished": // with the sum, which has what the parts left out
		c.arrived(p.RequestID, p.EncodedDataLength-c.came[p.RequestID])
		delete(c.came, p.RequestID)
	case "Log.entryAdded":
		if p.Entry.Level == "error" {
			c.Problems = append(c.Problems, p.Entry.Text)
		}
	case "Runtime.exceptionThrown":
		c.Problems = append(c.Problems, p.ExceptionDetails.Text)
	case "Runtime.consoleAPICalled":
		if p.Type == "error" {
			c.Problems = append(c.Problems, "console.error")
		}
	}
}

func (c *Chrome) arrived(request string, bytes float64) {
	c.came[request] += bytes
	c.Bytes += bytes
}

// Open opens a page. It does not wait until that is loaded.
func (c *Chrome) Open(url string) {
	c.t.Helper()
	c.Call("Page.navigate", map[string]any{"url": url}, nil)
}

// Eval evaluates an expression in the page, whose value is put into result.
func (c *Chrome) Eval(expression string, result any) {
	c.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	c.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true,
		"awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		c.t.Fatalf("%s: %s %s", expression, r.ExceptionDetails.Text, r.ExceptionDetails.Exception.Description)
	}
	if result != nil && r.Result.Value != nil {
		c.must(json.Unmarshal(r.Result.Value, result))
	}
}

// Await waits until an expression is true, at each frame of the page, and returns how long that
// took.
func (c *Chrome) Await(expression string) time.Duration {
	c.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for {
		ok := false
		c.Eval(fmt.Sprintf("(() => { try { return !!(%s) } catch { return false } })()", expression), &ok)
		if ok {
			return time.Since(began)
		}
		if ctx.Err() != nil {
			var text string
			c.Eval("document.body.innerText", &text)
			c.t.Fatalf("not true within 30 s: %s; the page shows:\n%.2000s", expression, text)
		}
		c.Eval("new Promise(r => setTimeout(r, 10))", nil)
	}
}

// Timing is how long parts of a page took from the moment at which it was asked for.
type Timing struct {
	Answered float64 // milliseconds until the first byte of its HTML was there
	Read     float64 // until the last was
	Painted  float64 // until the first text was on the screen
	Loaded   float64 // until its styles and scripts were
}

// Timing returns the times of the page, once it is painted and loaded.
func (c *Chrome) Timing() (t Timing) {
	c.t.Helper()
	c.Await(`performance.getEntriesByType('navigation')[0].loadEventEnd > 0 &&
		performance.getEntriesByName('first-contentful-paint').length > 0`)
	c.Eval(`(() => { const n = performance.getEntriesByType('navigation')[0];
		return { Answered: n.responseStart, Read: n.responseEnd, Loaded: n.loadEventEnd,
			Painted: performance.getEntriesByName('first-contentful-paint')[0].startTime } })()`, &t)
	return t
}

// Press presses a key.
func (c *Chrome) Press(key string) {
	c.t.Helper()
	p := map[string]any{"type": "keyDown", "key": key}
	switch {
	case key == "Enter":
		p["text"], p["windowsVirtualKeyCode"] = "\r", 13
	case key == "Tab":
		p["windowsVirtualKeyCode"] = 9
	case key == "Escape":
		p["windowsVirtualKeyCode"] = 27
	case len(key) == 1:
		p["text"] = key
	}
	c.Call("Input.dispatchKeyEvent", p, nil)
	c.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
}

// Type types text.
func (c *Chrome) Type(text string) {
	c.t.Helper()
	for _, r := range text {
		c.Press(string(r))
	}
}

// Dark makes the page dark, or light.
func (c *Chrome) Dark(on bool) {
	c.t.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	c.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": value}}}, nil)
}

// Size sets the size of the window in pixels.
func (c *Chrome) Size(width, height int) {
	c.t.Helper()
	c.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height,
		"deviceScaleFactor": 1, "mobile": false}, nil)
}

// Picture returns what the window shows, as PNG.
func (c *Chrome) Picture() []byte {
	c.t.Helper()
	var r struct{ Data []byte }
	c.Call("Page.captureScreenshot", map[string]any{"format": "png"}, &r)
	return r.Data
}

// Metric returns a figure of the page, by its name in the method Performance.getMetrics of the
// protocol: TaskDuration, the seconds that its main thread was busy; JSHeapUsedSize; Nodes.
func (c *Chrome) Metric(name string) float64 {
	c.t.Helper()
	c.Call("Performance.enable", nil, nil)
	var m struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	c.Call("Performance.getMetrics", nil, &m)
	for _, x := range m.Metrics {
		if x.Name == name {
			return x.Value
		}
	}
	c.t.Fatalf("the browser has no figure %s", name)
	return 0
}

// Collect collects garbage.
func (c *Chrome) Collect() {
	c.t.Helper()
	c.Call("HeapProfiler.collectGarbage", nil, nil)
}
