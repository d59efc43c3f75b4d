package command

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// plainFlagError returns the error of a flag whose value is no number with what is wanted, and
// without the names of Go's functions.
func plainFlagError(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) {
		return err
	}

	want, known := map[string]string{"ParseUint": "a whole number from 0", "ParseInt": "a whole number",
		"ParseFloat": "a number", "ParseBool": "true or false"}[number.Func]
	if !known {
		return err
	}
	if errors.Is(number, strconv.ErrRange) {
		want += " that is not as large"
	}
	text, _, _ := strings.Cut(err.Error(), ": "+number.Error())

	return fmt.Errorf("%s: want %s", text, want)
}
