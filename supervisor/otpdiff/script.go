package otpdiff

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// script returns a history for both sides: as an Erlang command, to be run in the directory of
// otpdiff.erl, and as a Go literal for the list of named histories.
func (h History) script() string {
	return fmt.Sprintf(`# OTP, in supervisor/otpdiff:
erlc -o /tmp otpdiff.erl && erl +S 1:1 -noshell -pa /tmp -eval '
otpdiff:play(%s).'

// package supervisor: an entry of named, in named_test.go
{"", %s},
`, source(h.term()), literal(reflect.ValueOf(h)))
}

// literal returns a value as Go source, without its zero fields.
func literal(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case supervisor.Restart:
		return "supervisor." + map[supervisor.Restart]string{0: "Permanent", 1: "Transient", 2: "Temporary"}[x]

	case supervisor.Strategy:
		return "supervisor." + map[supervisor.Strategy]string{0: "OneForOne", 1: "OneForAll", 2: "RestForOne"}[x]

	case supervisor.AutoShutdown:
		return "supervisor." + map[supervisor.AutoShutdown]string{0: "Never", 1: "AnySignificant",
			2: "AllSignificant"}[x]

	case time.Duration:
		switch x {
		case supervisor.Brutal:
			return "supervisor.Brutal"
		case supervisor.Infinity:
			return "supervisor.Infinity"
		}
		return strconv.FormatInt(int64(x), 10)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return "&" + literal(v.Elem())

	case reflect.String:
		return strconv.Quote(v.String())

	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, strings.TrimPrefix(literal(v.Index(i)), v.Type().Elem().Name()))
		}
		return "[]" + v.Type().Elem().Name() + "{" + strings.Join(parts, ", ") + "}"

	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				parts = append(parts, v.Type().Field(i).Name+": "+literal(f))
			}
		}
		return v.Type().Name() + "{" + strings.Join(parts, ", ") + "}"

	default:
		return fmt.Sprint(v.Interface())
	}
}
