package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
)

// Names of the files in a home by which clients find its node. The files of tokens have mode 0600.
const (
	NodeFileName        = "node.json" // written when the node listens, removed when it stops
	TokenFileName       = "admin.token"
	SubmitTokenFileName = "submit.token"
	ReadTokenFileName   = "read.token"
)

// NodeFile describes where the node of a home listens. A process that was killed leaves its file
// behind.
type NodeFile struct {
	PID     int    `json:"pid"`
	Address string `json:"address"` // host:port, or https://host:port, with the actual port

	// Certificate is the file of the listener's certificate, if it has one. Clients of this home
	// trust only that certificate.
	Certificate string `json:"certificate,omitempty"`
}

// Write writes n to the home in one step: a reader sees either the former file or all of the new
// one.
func (n NodeFile) Write(home string) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}

	if err := durable.OS.Replace(filepath.Join(home, NodeFileName), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("node file: %w", err)
	}

	return nil
}

// ReadNodeFile reads the node file of a home. If the home has none, the error is fs.ErrNotExist.
func ReadNodeFile(home string) (NodeFile, error) {
	path := filepath.Join(home, NodeFileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return NodeFile{}, fmt.Errorf("no node listens for home %s: %w", home, err)
	}
	if err != nil {
		return NodeFile{}, fmt.Errorf("node file: %w", err)
	}

	var n NodeFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return NodeFile{}, fmt.Errorf("node file %s: %w", path, err)
	}
	if n.Address == "" {
		return NodeFile{}, fmt.Errorf("node file %s: address is missing", path)
	}

	return n, nil
}
