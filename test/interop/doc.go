// Package interop drives the servers with official RocketMQ clients of other
// languages: Java 4.5.2, 4.9.8 and 5.3.3 with JSON and with binary headers, and
// the Node clients rocketmq 2.0.1 and ali-ons 3.12.0. It also mixes gomq with
// Java nameservers and brokers.
//
// The programs in java/ and node/ only do what they are told, one command a
// line, and say what they saw; what is expected is in the Go tests. They hold
// under the build tag interop, the long ones under interop_all:
//
//	go test -tags interop ./interop/...
//
// The jars and modules come from Maven Central and from npm by their names, once
// for a machine, into a cache outside of the tree. What is missing (a JDK, Maven,
// Node, the network for the first download) is named and counted as skipped.
//
// Environment, beside that of package harness:
//
//	GOMQ_INTEROP_CACHE   where jars, modules and classes are kept (default: gomq-interop in the user's cache directory)
//	INTEROP_SERVER       "gomq" (default) or "java:4.9.7" to run the same scenarios against that original, whose behaviour they
//	                     expect; other versions can be named and differ in what changed there
//	INTEROP_REQUIRE      set: what is missing fails instead of being skipped
package interop
