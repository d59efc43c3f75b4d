package suturecompat

import "github.com/thejerf/suture/v4"

// The events have suture's names, fields, texts and JSON, and the Supervisor that they are about.
type (
	// EventStopTimeout: a service did not stop in time.
	EventStopTimeout struct {
		Supervisor     *Supervisor `json:"-"`
		SupervisorName string      `json:"supervisor_name"`
		Service        Service     `json:"-"`
		ServiceName    string      `json:"service"`
	}
	// EventServicePanic: a service panicked.
	EventServicePanic struct {
		Supervisor       *Supervisor `json:"-"`
		SupervisorName   string      `json:"supervisor_name"`
		Service          Service     `json:"-"`
		ServiceName      string      `json:"service_name"`
		CurrentFailures  float64     `json:"current_failures"`
		FailureThreshold float64     `json:"failure_threshold"`
		Restarting       bool        `json:"restarting"`
		PanicMsg         string      `json:"panic_msg"`
		Stacktrace       string      `json:"stacktrace"`
	}
	// EventServiceTerminate: a service ended without having been told to.
	EventServiceTerminate struct {
		Supervisor       *Supervisor `json:"-"`
		SupervisorName   string      `json:"supervisor_name"`
		Service          Service     `json:"-"`
		ServiceName      string      `json:"service_name"`
		CurrentFailures  float64     `json:"current_failures"`
		FailureThreshold float64     `json:"failure_threshold"`
		Restarting       bool        `json:"restarting"`
		Err              any         `json:"error_msg"`
	}
	// EventBackoff: restarts pause, because there were too many failures.
	EventBackoff struct {
		Supervisor     *Supervisor `json:"-"`
		SupervisorName string      `json:"supervisor_name"`
	}
	// EventResume: the pause is over.
	EventResume struct {
		Supervisor     *Supervisor `json:"-"`
		SupervisorName string      `json:"supervisor_name"`
	}
)

// SutureHook returns a hook that gives h suture's own event types, for hooks of other packages that
// switch over them. Their Supervisor field is a stand-in with the right name.
func SutureHook(h EventHook) EventHook {
	return func(e Event) {
		if ours, ok := e.(interface{ suture() Event }); ok {
			e = ours.suture()
		}
		h(e)
	}
}

func (e EventStopTimeout) suture() Event {
	return suture.EventStopTimeout{Supervisor: e.Supervisor.suture(), SupervisorName: e.SupervisorName,
		Service: e.Service, ServiceName: e.ServiceName}
}

func (e EventServicePanic) suture() Event {
	return suture.EventServicePanic{Supervisor: e.Supervisor.suture(), SupervisorName: e.SupervisorName,
		Service: e.Service, ServiceName: e.ServiceName, CurrentFailures: e.CurrentFailures,
		FailureThreshold: e.FailureThreshold, Restarting: e.Restarting, PanicMsg: e.PanicMsg, Stacktrace: e.Stacktrace}
}

func (e EventServiceTerminate) suture() Event {
	return suture.EventServiceTerminate{Supervisor: e.Supervisor.suture(), SupervisorName: e.SupervisorName,
		Service: e.Service, ServiceName: e.ServiceName, CurrentFailures: e.CurrentFailures,
		FailureThreshold: e.FailureThreshold, Restarting: e.Restarting, Err: e.Err}
}

func (e EventBackoff) suture() Event {
	return suture.EventBackoff{Supervisor: e.Supervisor.suture(), SupervisorName: e.SupervisorName}
}

func (e EventResume) suture() Event {
	return suture.EventResume{Supervisor: e.Supervisor.suture(), SupervisorName: e.SupervisorName}
}

// suture returns a suture.Supervisor with the name of s. It is never served.
func (s *Supervisor) suture() *suture.Supervisor {
	if s == nil {
		return nil
	}
	return suture.New(s.Name, Spec{EventHook: func(Event) {}})
}

// Type returns EventTypeStopTimeout.
func (EventStopTimeout) Type() EventType { return EventTypeStopTimeout }

// Type returns EventTypeServicePanic.
func (EventServicePanic) Type() EventType { return EventTypeServicePanic }

// Type returns EventTypeServiceTerminate.
func (EventServiceTerminate) Type() EventType { return EventTypeServiceTerminate }

// Type returns EventTypeBackoff.
func (EventBackoff) Type() EventType { return EventTypeBackoff }

// Type returns EventTypeResume.
func (EventResume) Type() EventType { return EventTypeResume }

// String returns suture's text.
func (e EventStopTimeout) String() string { return e.suture().String() }

// String returns suture's text.
func (e EventServicePanic) String() string { return e.suture().String() }

// String returns suture's text.
func (e EventServiceTerminate) String() string { return e.suture().String() }

// String returns suture's text.
func (e EventBackoff) String() string { return e.suture().String() }

// String returns suture's text.
func (e EventResume) String() string { return e.suture().String() }

// Map returns the fields that can be serialized, by suture's names.
func (e EventStopTimeout) Map() map[string]any { return e.suture().Map() }

// Map returns the fields that can be serialized, by suture's names.
func (e EventServicePanic) Map() map[string]any { return e.suture().Map() }

// Map returns the fields that can be serialized, by suture's names.
func (e EventServiceTerminate) Map() map[string]any { return e.suture().Map() }

// Map returns the fields that can be serialized, by suture's names.
func (e EventBackoff) Map() map[string]any { return e.suture().Map() }

// Map returns the fields that can be serialized, by suture's names.
func (e EventResume) Map() map[string]any { return e.suture().Map() }
