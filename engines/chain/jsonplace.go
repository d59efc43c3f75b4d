package chain

import (
	"encoding/json"
	"errors"
	"fmt"
)

// JSONError adds to an error of decoding a JSON file the number of the byte at which it is, if the
// decoder says so. json.Decoder.InputOffset does not say it: it is where the value begins or ends.
func JSONError(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("near byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("near byte %d: %w", kind.Offset, err)
	}
	return err
}
