// Package sinktest tests that a sink keeps the contract of streams.Sink: the fence, resumption
// after every cut, order, parts, what a kill leaves behind, and the reading that verify needs.
//
// A sink's package calls Run with its factory and a Rig, which makes empty targets. The kit brings
// the units, so no node is needed. Its deliveries are unkind on purpose: they overwrite an event's
// memory as soon as the sink asks for the next one, and they give only little credit.
package sinktest
