package comettest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// Published is a client of the published manager's HTTP API. The original's client runs only within
// its framework, so this one was written from the specification of consensus control (section 1),
// as that client is used: it reads the body of each answer and knows no other field. Each method
// returns an error for an answer of another form. It is safe for concurrent use.
type Published struct{ URL string }

// Params returns what GET /params says of the node: its peer id and its address. They are empty if
// ok is false, and problem says why.
func (c Published) Params(ctx context.Context) (peerID, address string, ok bool, problem string, err error) {
	var out struct {
		Params struct {
			Address string         `json:"address"`
			PubKey  map[string]any `json:"pub_key"`
			PeerID  string         `json:"peer_id"`
		} `json:"params"`
		Status *bool   `json:"status"`
		Error  *string `json:"error"`
	}
	err = c.call(ctx, http.MethodGet, "/params", nil, &out, "error", "params", "status")
	switch {
	case err != nil:
		return "", "", false, "", err
	case out.Status == nil, *out.Status != (out.Error == nil), *out.Status != (len(out.Params.PubKey) == 2):
		return "", "", false, "", fmt.Errorf("GET /params: %+v contradicts itself", out)
	case out.Error != nil:
		problem = *out.Error
	}
	return out.Params.PeerID, out.Params.Address, *out.Status, problem, nil
}

// SetParams makes a POST /params.
func (c Published) SetParams(ctx context.Context, body any) (ok bool, problem string, err error) {
	var out struct {
		Status *bool   `json:"status"`
		Error  *string `json:"error"`
	}
	err = c.call(ctx, http.MethodPost, "/params", body, &out, "error", "status")
	switch {
	case err != nil:
		return false, "", err
	case out.Status == nil, *out.Status != (out.Error == nil):
		return false, "", fmt.Errorf("POST /params: %+v contradicts itself", out)
	case out.Error != nil:
		problem = *out.Error
	}
	return *out.Status, problem, nil
}

// Reset asks for a reset: of kind gentle or hard, with the parameters of a hard one.
func (c Published) Reset(ctx context.Context, kind string, with url.Values) (ok bool, message string, err error) {
	var out struct {
		Message *string `json:"message"`
		Status  *bool   `json:"status"`
	}
	path := "/" + kind + "_reset"
	err = c.call(ctx, http.MethodGet, path+"?"+with.Encode(), nil, &out, "message", "status")
	if err == nil && (out.Message == nil || out.Status == nil || *out.Message == "") {
		err = fmt.Errorf("GET %s: a null", path)
	}
	if err != nil {
		return false, "", err
	}
	return *out.Status, *out.Message, nil
}

// AppHash returns the app hash of a height, or of the latest block for "". Without one, problem
// says why.
func (c Published) AppHash(ctx context.Context, height string) (hash, problem string, err error) {
	var out map[string]string
	path := "/app_hash"
	if height != "" {
		path += "?height=" + url.QueryEscape(height)
	}
	if err := c.call(ctx, http.MethodGet, path, nil, &out); err != nil {
		return "", "", err
	}
	hash, has := out["app_hash"]
	problem, failed := out["error"]
	if has == failed || len(out) != 1 {
		return "", "", fmt.Errorf("GET %s: %v, want app_hash or error", path, out)
	}
	return hash, problem, nil
}

// call decodes an answer, which must have exactly the given keys, if any are given.
func (c Published) call(ctx context.Context, method, path string, body, out any, keys ...string) error {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, send)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}

	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: status %d: %s", method, path, res.StatusCode, data)
	}
	if len(keys) > 0 {
		var all map[string]any
		if err := json.Unmarshal(data, &all); err != nil {
			return fmt.Errorf("%s %s: %s: %w", method, path, data, err)
		}
		if have := slices.Sorted(maps.Keys(all)); !slices.Equal(have, keys) {
			return fmt.Errorf("%s %s: keys %v, want %v", method, path, have, keys)
		}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, data, err)
	}

	return nil
}
