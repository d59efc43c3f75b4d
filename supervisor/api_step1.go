package supervisor

import (
	"context"
	"time"
)

type Supervisor struct{ spec Spec }
type Run struct{}
type Ref struct{}
type Fault struct {
	// Name says in events and logs what the fault is.
	Name string
	// Do runs in the goroutine of the service that took the fault.
	Do func(ctx context.Context)
}

func (Ref) ID() string          { panic("step 1") }
func (Ref) Path() string        { panic("step 1") }
func (Ref) Incarnation() uint64 { panic("step 1") }
func (Ref) Info() any           { panic("step 1") }

// Monitor: one Exit, at once if already ended; never closed without a value.
func Monitor(Ref) <-chan Exit                                    { panic("step 1") }
func Link(context.Context, Ref) error                            { panic("step 1") }
func Ready(context.Context)                                      { panic("step 1") }
func SetInfo(context.Context, any)                               { panic("step 1") }
func Go(context.Context, func(context.Context) error) error      { panic("step 1") }
func Faults(context.Context) <-chan Fault                        { panic("step 1") }
func Path(context.Context) string                                { panic("step 1") }
func Incarnation(context.Context) uint64                         { panic("step 1") }
func CheckChildren(children []Child, auto ...AutoShutdown) error { panic("step 1") }

func New(Spec) (*Supervisor, error)                     { panic("step 1") }
func (*Supervisor) Serve(context.Context) error         { panic("step 1") }
func (*Supervisor) Start(context.Context) (*Run, error) { panic("step 1") }

// The same methods, except Wait, Done, Err, are on *Supervisor, answering ErrNotRunning without a run.
func (*Run) StartChild(context.Context, Child) (Ref, error)    { panic("step 1") }
func (*Run) RestartChild(context.Context, string) (Ref, error) { panic("step 1") }
func (*Run) TerminateChild(context.Context, string) error      { panic("step 1") }
func (*Run) DeleteChild(context.Context, string) error         { panic("step 1") }
func (*Run) WhichChildren() ([]ChildInfo, error)               { panic("step 1") }
func (*Run) WhichChild(string) (ChildInfo, error)              { panic("step 1") }
func (*Run) CountChildren() (Counts, error)                    { panic("step 1") }
func (*Run) ChildSpec(string) (Child, error)                   { panic("step 1") }
func (*Run) Reload(context.Context, Spec) error                { panic("step 1") }
func (*Run) Kill(path string, reason error) error              { panic("step 1") }
func (*Run) Inject(context.Context, string, Fault) error       { panic("step 1") }
func (*Run) Tree() Tree                                        { panic("step 1") }
func (*Run) Orphans() []Orphan                                 { panic("step 1") }
func (*Run) Events() []Event                                   { panic("step 1") }

// Subscribe returns the remembered events and sends all later ones to o, without a gap.
func (*Run) Subscribe(o Observer) (past []Event, cancel func()) { panic("step 1") }
func (*Run) Stop(context.Context) error                         { panic("step 1") }
func (*Run) Wait() error                                        { panic("step 1") }
func (*Run) Done() <-chan struct{}                              { panic("step 1") }
func (*Run) Err() error                                         { panic("step 1") }

func (*Supervisor) StartChild(context.Context, Child) (Ref, error)    { panic("step 1") }
func (*Supervisor) RestartChild(context.Context, string) (Ref, error) { panic("step 1") }
func (*Supervisor) TerminateChild(context.Context, string) error      { panic("step 1") }
func (*Supervisor) DeleteChild(context.Context, string) error         { panic("step 1") }
func (*Supervisor) WhichChildren() ([]ChildInfo, error)               { panic("step 1") }
func (*Supervisor) WhichChild(string) (ChildInfo, error)              { panic("step 1") }
func (*Supervisor) CountChildren() (Counts, error)                    { panic("step 1") }
func (*Supervisor) ChildSpec(string) (Child, error)                   { panic("step 1") }
func (*Supervisor) Reload(context.Context, Spec) error                { panic("step 1") }
func (*Supervisor) Kill(path string, reason error) error              { panic("step 1") }
func (*Supervisor) Inject(context.Context, string, Fault) error       { panic("step 1") }
func (*Supervisor) Tree() Tree                                        { panic("step 1") }
func (*Supervisor) Orphans() []Orphan                                 { panic("step 1") }
func (*Supervisor) Events() []Event                                   { panic("step 1") }
func (*Supervisor) Stop(context.Context) error                        { panic("step 1") }

// DynamicSpec specifies a dynamic supervisor: OTP's simple_one_for_one.
type DynamicSpec[A any] struct {
	Name                   string
	Start                  func(ctx context.Context, arg A) (Service, error)
	Restart                Restart
	Ack                    Ack
	Shutdown, StartTimeout time.Duration
	Backoff                Backoff
	Intensity              Intensity
	MaxChildren            int
	Orphan                 OrphanPolicy
	// Verbose emits ChildStarting, ChildStarted and quiet exits too; otherwise (OTP rule 80) instances come and go without an event.
	Verbose   bool
	Observers []Observer
}
type Dynamic[A any] struct{ spec DynamicSpec[A] }

func NewDynamic[A any](DynamicSpec[A]) (*Dynamic[A], error)                       { panic("step 1") }
func (*Dynamic[A]) Serve(context.Context) error                                   { panic("step 1") }
func (*Dynamic[A]) StartChild(ctx context.Context, id string, arg A) (Ref, error) { panic("step 1") }
func (*Dynamic[A]) TerminateChild(ctx context.Context, id string) error           { panic("step 1") }
func (*Dynamic[A]) TerminateRef(ctx context.Context, ref Ref) error               { panic("step 1") }
func (*Dynamic[A]) WhichChildren() ([]ChildInfo, error)                           { panic("step 1") }
func (*Dynamic[A]) WhichChild(id string) (ChildInfo, error)                       { panic("step 1") }
func (*Dynamic[A]) CountChildren() (Counts, error)                                { panic("step 1") }
func (*Dynamic[A]) Kill(path string, reason error) error                          { panic("step 1") }
func (*Dynamic[A]) Inject(context.Context, string, Fault) error                   { panic("step 1") }
func (*Dynamic[A]) Tree() Tree                                                    { panic("step 1") }
func (*Dynamic[A]) Orphans() []Orphan                                             { panic("step 1") }
func (*Dynamic[A]) Stop(context.Context) error                                    { panic("step 1") }

// PartitionSpec specifies a fixed number of like children, IDs "0" to "n-1", addressed by key.
type PartitionSpec struct {
	Name       string
	Partitions int
	Start      func(ctx context.Context, partition int) (Service, error)
	// Child is the template of each: its ID and Start are not used.
	Child     Child
	Intensity Intensity
	Observers []Observer
}
type Partition struct{ *Supervisor }

func NewPartition(PartitionSpec) (*Partition, error)       { panic("step 1") }
func (*Partition) Partitions() int                         { panic("step 1") }
func (*Partition) Route(key any) int                       { panic("step 1") }
func (*Partition) Child(key any) (Ref, error)              { panic("step 1") }
func (*Partition) Resize(ctx context.Context, n int) error { panic("step 1") }

func FromSuture(build func(context.Context) (Service, error)) StartFunc { panic("step 1") }

type Lease[T any] struct{ open func() (T, error) }
type Grant[T any] struct{ value T }

func NewLease[T any](open func() (T, error), close func(T) error, bound time.Duration) *Lease[T] {
	panic("step 1")
}
func (*Lease[T]) Acquire(context.Context) (*Grant[T], error) { panic("step 1") }
func (*Lease[T]) Close() error                               { panic("step 1") }
func (*Grant[T]) Do(func(T) error) error                     { panic("step 1") }
func (*Grant[T]) Release() error                             { panic("step 1") }
