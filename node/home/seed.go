package home

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// SeedText returns the content of a file with an ed25519 key: the base64 of its seed, as a line.
func SeedText(key ed25519.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(key.Seed()) + "\n"
}

// ReadSeed reads the key in a file that has SeedText.
func ReadSeed(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s: want the base64 of %d bytes, as 'coppice validators keygen' writes it", path,
			ed25519.SeedSize)
	}

	return ed25519.NewKeyFromSeed(seed), nil
}
