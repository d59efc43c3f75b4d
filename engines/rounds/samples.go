package rounds

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
)

// Sampler is a Round that knows which payloads tell its ends apart. A search through all histories
// of a service (package explore) says each of them. The empty payload stands for nothing.
type Sampler interface {
	Samples() [][]byte
}

// Samples returns a few payloads of a round for a search: the round's own if it is a Sampler, as
// every shipped type is, and otherwise the empty payload and some of each kind of JSON.
func Samples[S any](r Round[S]) [][]byte {
	inner, _ := kind(r)
	if s, ok := inner.(Sampler); ok {
		return s.Samples()
	}
	return [][]byte{nil, []byte("0"), []byte("1"), []byte(`"a"`), []byte("true")}
}

// Samples implements Sampler: nothing, the zero value of the type, and one or two others. Their
// equality is all that most types of round look at. The others are for the functions of the app.
func (act[S, P]) Samples() [][]byte {
	out := [][]byte{nil}
	for _, v := range sampleValues(reflect.TypeFor[P](), 0) {
		var value P
		reflect.ValueOf(&value).Elem().Set(v)
		b, err := Encode(value)
		if err != nil {
			continue
		}
		known := slices.ContainsFunc(out, func(o []byte) bool { return bytes.Equal(o, b) })
		if _, err := Decode[P](b); err == nil && !known {
			out = append(out, b)
		}
	}
	return out
}

// Samples implements Sampler: the three ballots.
func (voting[S]) Samples() (out [][]byte) {
	for _, b := range []Ballot{Yes, No, Abstain} {
		out = append(out, []byte(`"`+b+`"`))
	}
	return out
}

// Samples implements Sampler: two numbers of a period. The empty payload is refused.
func (endPeriod[S]) Samples() [][]byte { return [][]byte{[]byte("0"), []byte("1")} }

// maxSampleDepth bounds how deep sampleValues goes into a type that contains itself.
const maxSampleDepth = 4

// sampleValues returns the zero value of a type, and then values that differ from it.
func sampleValues(t reflect.Type, depth int) []reflect.Value {
	out := []reflect.Value{reflect.Zero(t)}
	add := func(x any) { out = append(out, reflect.ValueOf(x).Convert(t)) }

	switch t.Kind() {
	case reflect.Bool:
		add(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
		add(1)
		add(-1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		add(1)
	case reflect.String:
		add("a")
	case reflect.Struct, reflect.Array, reflect.Slice, reflect.Map, reflect.Pointer:
		if depth < maxSampleDepth {
			out = append(out, composed(t, depth)...)
		}
	}
	return out
}

// composed returns values of a type that holds others, made of samples of these.
func composed(t reflect.Type, depth int) (out []reflect.Value) {
	value := reflect.New(t).Elem()

	switch t.Kind() {
	case reflect.Struct:
		return composedStruct(t, depth)

	case reflect.Array:
		for _, v := range sampleValues(t.Elem(), depth+1)[1:] {
			value = reflect.New(t).Elem()
			for i := range t.Len() {
				value.Index(i).Set(v)
			}
			out = append(out, value)
		}

	case reflect.Slice:
		of := sampleValues(t.Elem(), depth+1)
		out = append(out, reflect.MakeSlice(t, 0, 0), reflect.Append(value, of[len(of)-1]))

	case reflect.Map:
		keys, of := sampleValues(t.Key(), depth+1), sampleValues(t.Elem(), depth+1)
		value = reflect.MakeMap(t)
		value.SetMapIndex(keys[len(keys)-1], of[len(of)-1])
		out = append(out, value)

	case reflect.Pointer:
		of := sampleValues(t.Elem(), depth+1)
		value = reflect.New(t.Elem())
		value.Elem().Set(of[len(of)-1])
		out = append(out, value.Convert(t))
	}
	return out
}

// composedStruct returns structs whose i-th has the i-th sample of each field, or the last one of a
// field that has fewer. Fields that JSON leaves out stay zero.
func composedStruct(t reflect.Type, depth int) (out []reflect.Value) {
	fields, most := make([][]reflect.Value, t.NumField()), 0
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !f.IsExported() || name == "-" {
			continue
		}
		fields[i] = sampleValues(f.Type, depth+1)
		most = max(most, len(fields[i]))
	}

	for n := 1; n < most; n++ {
		value := reflect.New(t).Elem()
		for i, of := range fields {
			if len(of) > 0 {
				value.Field(i).Set(of[min(n, len(of)-1)])
			}
		}
		out = append(out, value)
	}
	return out
}
