package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Procedures of gRPC's health service.
const (
	HealthCheckProcedure = "/" + grpchealth.HealthV1ServiceName + "/Check"
	HealthWatchProcedure = "/" + grpchealth.HealthV1ServiceName + "/Watch"
)

// GRPCRoutes returns the routes of gRPC's own services: health (grpc.health.v1) and reflection,
// with which tools such as grpcurl need no .proto files.
func GRPCRoutes(h Host) []Route {
	health, check := grpchealth.NewHandler(&grpcHealth{host: h}, connect.WithReadMaxBytes(maxAdminBody))

	reflector := grpcreflect.NewStaticReflector(append(Services(), grpchealth.HealthV1ServiceName)...)
	v1, reflect := grpcreflect.NewHandlerV1(reflector, connect.WithReadMaxBytes(maxAdminBody))
	alpha, reflectAlpha := grpcreflect.NewHandlerV1Alpha(reflector, connect.WithReadMaxBytes(maxAdminBody))

	return []Route{
		{health, check, Ask},
		{HealthWatchProcedure, check, Stream},
		{v1, reflect, Work},
		{alpha, reflectAlpha, Work},
	}
}

// Services returns the full names of the services of the API.
func Services() (names []string) {
	protoregistry.GlobalFiles.RangeFilesByPackage("coppice.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			names = append(names, string(f.Services().Get(i).FullName()))
		}
		return true
	})

	slices.Sort(names)

	return names
}

const (
	watchEvery = 250 * time.Millisecond // between two looks at the health that is being watched
	maxWatches = 64                     // streams of gRPC's health service
)

// grpcHealth answers gRPC's health service. A service is SERVING when the node is ready, and
// AdminService is SERVING always, because it answers always (I8). The empty name is the node.
type grpcHealth struct {
	host    Host
	watches atomic.Int32
}

// Check implements grpchealth.Checker.
func (g *grpcHealth) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	known := append(Services(), "", grpchealth.HealthV1ServiceName)
	if !slices.Contains(known, req.Service) {
		return nil, connect.NewError(connect.CodeNotFound,
			fmt.Errorf("service: %q is not one of %v, or empty for the node", req.Service, Services()))
	}

	ready := g.host.Health().Able()
	if ready || req.Service == apiv1connect.AdminServiceName || req.Service == grpchealth.HealthV1ServiceName {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
	}

	return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
}

// Watch implements grpchealth.Watcher. It looks at the health from time to time.
func (g *grpcHealth) Watch(ctx context.Context, req *grpchealth.CheckRequest, onChange func()) (func(), error) {
	if _, err := g.Check(ctx, req); err != nil {
		return nil, err
	}

	if g.watches.Add(1) > maxWatches {
		g.watches.Add(-1)
		return nil, connect.NewError(connect.CodeResourceExhausted,
			errors.New("too many clients watch the health, want at most 64: use Check"))
	}

	done, ended := make(chan struct{}), make(chan struct{})
	look := time.NewTicker(watchEvery)

	go func() {
		defer close(ended)

		for {
			select {
			case <-done:
				return
			case <-look.C:
				onChange()
			}
		}
	}()

	return func() {
		look.Stop()
		close(done)
		<-ended
		g.watches.Add(-1)
	}, nil
}
