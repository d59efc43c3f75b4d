package otpdiff

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// term is an Erlang term: an atom, a string (an Erlang binary), an int, a tuple or a list.
type term any

type (
	atom  string
	tuple []term
	list  []term
)

// external appends the term in Erlang's external format, without the leading version.
func external(b []byte, t term) []byte {
	switch t := t.(type) {
	case atom:
		b = append(b, 119, byte(len(t)))
		return append(b, t...)

	case string:
		b = binary.BigEndian.AppendUint32(append(b, 109), uint32(len(t)))
		return append(b, t...)

	case int:
		return binary.BigEndian.AppendUint32(append(b, 98), uint32(int32(t)))

	case tuple:
		b = append(b, 104, byte(len(t)))
		for _, x := range t {
			b = external(b, x)
		}
		return b

	case list:
		if len(t) == 0 {
			return append(b, 106)
		}
		b = binary.BigEndian.AppendUint32(append(b, 108), uint32(len(t)))
		for _, x := range t {
			b = external(b, x)
		}
		return append(b, 106)

	default:
		panic(fmt.Sprintf("no Erlang term: %T", t))
	}
}

// source returns the term as Erlang source.
func source(t term) string {
	switch t := t.(type) {
	case atom:
		return string(t)

	case string:
		return "<<" + strconv.Quote(t) + ">>"

	case int:
		return strconv.Itoa(t)

	case tuple:
		return "{" + sources(t) + "}"

	case list:
		return "[" + sources(t) + "]"

	default:
		panic(fmt.Sprintf("no Erlang term: %T", t))
	}
}

func sources(ts []term) string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = source(t)
	}
	return strings.Join(out, ", ")
}
