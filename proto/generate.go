// Package proto holds the contracts of Coppice as Protocol Buffers: the API, the records of the
// event log, the body of the kv backend. The generated code is committed; `go generate ./proto`
// makes it anew and wants protoc with protoc-gen-go and protoc-gen-connect-go.
package proto

//go:generate -command messages protoc --go_out=. --go_opt=paths=source_relative
//go:generate -command services protoc --connect-go_out=. --connect-go_opt=paths=source_relative
//go:generate -command plugins protoc --go-grpc_out=. --go-grpc_opt=paths=source_relative
//go:generate messages coppice/api/v1/node.proto coppice/api/v1/admin.proto
//go:generate messages coppice/api/v1/snapshot.proto coppice/api/v1/readiness.proto
//go:generate messages coppice/api/v1/peer.proto
//go:generate messages coppice/log/v1/log.proto coppice/log/v1/export.proto coppice/kv/v1/kv.proto
//go:generate messages coppice/api/v1/streams.proto
//go:generate services coppice/api/v1/streams.proto
//go:generate messages coppice/stream/v1/stream.proto coppice/plugin/v1/plugin.proto
//go:generate services coppice/api/v1/node.proto coppice/api/v1/admin.proto
//go:generate services coppice/api/v1/snapshot.proto coppice/api/v1/peer.proto
//go:generate plugins coppice/plugin/v1/plugin.proto
