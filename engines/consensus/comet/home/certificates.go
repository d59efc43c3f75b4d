package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coppice-go/coppice/internal/durable"
)

// Proof is a kind of file that a home keeps for good of each epoch of a chain with resets. Together
// they carry a light client's trust from one epoch to the next.
type Proof string

// Kinds of proofs.
const (
	Certificate Proof = "epoch" // of the reset that ended the epoch
	FirstBlock  Proof = "first" // the light block of the epoch's first height
	Way         Proof = "way"   // light blocks between the first one and the end of the epoch
)

// CertificateDir returns the directory of the proofs in a home.
func CertificateDir(home string) string { return filepath.Join(home, "certificates") }

// File returns the name of the file of a proof of an epoch.
func (p Proof) File(epoch uint64) string { return string(p) + "-" + strconv.FormatUint(epoch, 10) }

// ParseProof returns the proof and the epoch of the file with the given name.
func ParseProof(name string) (p Proof, epoch uint64, ok bool) {
	kind, digits, _ := strings.Cut(name, "-")
	p = Proof(kind)
	epoch, err := strconv.ParseUint(digits, 10, 64)
	return p, epoch, err == nil && (p == Certificate || p == FirstBlock || p == Way) && p.File(epoch) == name
}

// Write keeps a proof of an epoch in a home, durably and whole.
func (p Proof) Write(home string, epoch uint64, data []byte) error {
	dir := CertificateDir(home)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = durable.OS.SyncDir(home)
	}
	if err == nil {
		err = durable.OS.Replace(filepath.Join(dir, p.File(epoch)), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("%w: proofs of epoch %d: %w", ErrHome, epoch, err)
	}

	return nil
}

// Read returns a proof of an epoch, or nil if the home has none.
func (p Proof) Read(home string, epoch uint64) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(CertificateDir(home), p.File(epoch)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return b, nil
}

// WriteCertificate keeps the certificate of the reset that ended an epoch, for good.
func WriteCertificate(home string, epoch uint64, certificate []byte) error {
	return Certificate.Write(home, epoch, certificate)
}

// ReadCertificate returns the certificate of the reset that ended an epoch, or nil if the home has
// none.
func ReadCertificate(home string, epoch uint64) ([]byte, error) { return Certificate.Read(home, epoch) }

// ProofFiles returns the names of the proofs in a home, sorted.
func ProofFiles(home string) (names []string, err error) {
	entries, err := os.ReadDir(CertificateDir(home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	for _, e := range entries {
		if _, _, ok := ParseProof(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
