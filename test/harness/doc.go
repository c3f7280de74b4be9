// Package harness starts real nameserver and broker processes for the tests of
// this module, talks to them through their ports only, and leaves nothing
// behind: every process, directory and port it hands out belongs to one test
// and is taken back when that test ends.
//
// The programs under test are the gomq binary, built once for a run, or the
// Java originals when GOMQ_TEST_SERVER=java. A test that passes against both
// is a test of the protocol and not of one implementation.
//
// Environment:
//
//	GOMQ_BIN              a gomq binary to use instead of building one
//	GOMQ_TEST_SERVER      "gomq" (default) or "java"
//	GOMQ_TEST_JAVA_LIB    the directory with the jars of a Java original
//	GOMQ_TEST_DIR         where data directories are made; must not be a tmpfs
//	GOMQ_TEST_KEEP        set: directories of failed tests are kept and named
//	GOMQ_SEED             the seed of every random choice
//
// A package that uses the harness has this in one of its test files:
//
//	func TestMain(m *testing.M) { harness.Main(m) }
package harness
