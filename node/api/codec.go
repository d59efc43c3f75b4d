package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// knownEnums returns the option of a handler that refuses JSON requests with an unknown name of an
// enum. Connect's own codec takes such a name for the default, so that a misspelled "WAIT_RESULTS"
// did not wait. Unknown fields are skipped, by protobuf's rule, because a newer client may talk to
// an older node.
func knownEnums() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}))
}

// jsonCodec implements connect.Codec for the protobuf JSON format. It refuses unknown names of
// enums in requests, and is otherwise as Connect's own.
type jsonCodec struct{ name string }

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend appends the JSON of message to dst. Connect uses it, if a codec has it, to encode
// into a buffer of its own.
func (jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec.
func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}

	if len(data) == 0 {
		return errors.New("zero-length payload is not a valid JSON object")
	}
	if protojson.Unmarshal(data, m) == nil { // every name is known
		return nil
	}

	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) == nil {
		if err := unknownEnum(object, m.ProtoReflect().Descriptor()); err != nil {
			return err
		}
	}

	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

// unknownEnum returns an error for the first value of an enum in a JSON object that has a name that
// the enum does not have. It returns nil if there is none.
func unknownEnum(object map[string]json.RawMessage, d protoreflect.MessageDescriptor) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		field := d.Fields().ByJSONName(key)
		if field == nil {
			field = d.Fields().ByTextName(key)
		}
		if field == nil {
			continue
		}

		for _, value := range valuesOf(object[key], field) {
			if err := unknownValue(value, field); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}

	return nil
}

// unknownValue does the work of unknownEnum for one value of a field.
func unknownValue(value json.RawMessage, field protoreflect.FieldDescriptor) error {
	if e := field.Enum(); e != nil {
		var name string
		if json.Unmarshal(value, &name) != nil || e.Values().ByName(protoreflect.Name(name)) != nil {
			return nil
		}

		var names []string
		for i := range e.Values().Len() {
			names = append(names, string(e.Values().Get(i).Name()))
		}

		return fmt.Errorf("%q is unknown, want %s", name, strings.Join(names, ", "))
	}

	m := field.Message()
	if m == nil || m.ParentFile().Package() == "google.protobuf" { // those have a JSON of their own
		return nil
	}

	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) != nil {
		return nil
	}

	return unknownEnum(object, m)
}

// valuesOf returns the values of a field: those of a list, or the only one. It returns none of a
// map, which no request has.
func valuesOf(value json.RawMessage, field protoreflect.FieldDescriptor) (values []json.RawMessage) {
	switch {
	case field.IsList():
		_ = json.Unmarshal(value, &values) // protojson reports what is no list

	case !field.IsMap():
		values = []json.RawMessage{value}
	}

	return values
}
