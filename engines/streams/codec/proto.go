package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// File returns the descriptor file that a codec proto:FILE#MESSAGE names; ok is false for another
// codec.
func File(name string) (file string, ok bool) {
	file, _, ok = cutProto(name)
	return file, ok
}

func cutProto(name string) (file, message string, ok bool) {
	rest, ok := strings.CutPrefix(name, "proto:")
	if !ok {
		return "", "", false
	}
	file, message, ok = strings.Cut(rest, "#")
	return file, message, ok && file != "" && message != ""
}

// newProto returns the codec of a message, whose descriptor is in a FileDescriptorSet with all that
// it imports, as protoc --include_imports --descriptor_set_out writes it. A value that is not such
// a message is refused; fields that the descriptor lacks are left out.
func newProto(descriptors []byte, message string) (codec, error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(descriptors, set); err != nil {
		return nil, fmt.Errorf("not a FileDescriptorSet: %w", err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("descriptors: %w", err)
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(message))
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", message, err)
	}
	of, ok := found.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no message", message)
	}

	types := dynamicpb.NewTypes(files)
	read := proto.UnmarshalOptions{Resolver: types}
	write := protojson.MarshalOptions{Resolver: types, UseProtoNames: true}

	return func(v []byte) ([]byte, error) {
		m := dynamicpb.NewMessage(of)
		if err := read.Unmarshal(v, m); err != nil {
			return nil, fmt.Errorf("not a %s: %w", message, err)
		}
		text, err := write.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("a %s without a JSON form: %w", message, err)
		}
		var b bytes.Buffer
		err = json.Compact(&b, text) // protojson varies its spaces on purpose
		return b.Bytes(), err
	}, nil
}
