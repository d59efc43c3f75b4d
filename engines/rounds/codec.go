package rounds

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Encode returns the canonical bytes of a payload. They are JSON: the fields of a struct in their
// order, the keys of a map sorted. A value that JSON lacks, such as NaN, is an error.
func Encode[P any](value P) ([]byte, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return b, nil
}

// Decode returns the payload with the canonical bytes b. Bytes that decode, but are not what Encode
// makes of the result, are refused, so that equal values have equal bytes: 1.0 is not the integer 1
// in disguise.
func Decode[P any](b []byte) (value P, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&value); err != nil {
		return value, fmt.Errorf("payload: %w", err)
	}

	again, err := Encode(value)
	if err != nil {
		return value, err
	}
	if !bytes.Equal(again, b) {
		return value, fmt.Errorf("payload: %q is not in its canonical form %q", b, again)
	}

	return value, nil
}

// wellFormed returns Malformed unless b is empty or a canonical P.
func wellFormed[P any](b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := Decode[P](b); err != nil {
		return Malformed
	}
	return nil
}

// must decodes a payload that Admit has checked.
func must[P any](b []byte) P {
	v, err := Decode[P](b)
	if err != nil {
		panic(fmt.Sprintf("rounds: an admitted payload does not decode: %v", err))
	}
	return v
}

// clone returns a copy of s that shares no memory with it.
func clone[S any](s S) S {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("rounds: the state does not encode: %v", err))
	}

	var out S
	if err := json.Unmarshal(b, &out); err != nil {
		panic(fmt.Sprintf("rounds: the state does not decode: %v", err))
	}
	return out
}
