package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// opens is what the originals need of a Java 17 virtual machine.
const opens = "--add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED " +
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED " +
	"--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED " +
	"--add-opens=java.base/java.net=ALL-UNNAMED"

const logback = `<configuration><appender name="C" class="ch.qos.logback.core.ConsoleAppender"><encoder>` +
	`<pattern>%d %p %logger{20} - %m%n</pattern></encoder></appender><root level="WARN"><appender-ref ref="C"/></root></configuration>`

// java turns the spec into one that starts a Java original. Its home and logs
// are in the server's directory.
func (s *Server) java(spec *Spec) {
	s.t.Helper()
	lib := s.JavaLib
	if lib == "" {
		lib = os.Getenv("GOMQ_TEST_JAVA_LIB")
	}
	if lib == "" {
		Skip(s.t, "GOMQ_TEST_JAVA_LIB does not name the directory with the jars")
	}
	conf := filepath.Join(s.Dir, "home", "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"namesrv", "broker", "tools"} {
		if err := os.WriteFile(filepath.Join(conf, "logback_"+name+".xml"), []byte(logback), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	home := filepath.Join(s.Dir, "home")
	class, heap := "org.apache.rocketmq.namesrv.NamesrvStartup", "256m"
	if s.Role == "broker" {
		class, heap = "org.apache.rocketmq.broker.BrokerStartup", "768m"
	}
	spec.Path = "java"
	spec.Args = append(strings.Fields(opens), "-Xms"+heap, "-Xmx"+heap, "-XX:MaxDirectMemorySize=2g",
		"-Duser.home="+s.Dir, "-Drocketmq.home.dir="+home, "-cp", lib+"/*", class, "-c", s.Conf)
	spec.Env = append(spec.Env, "ROCKETMQ_HOME="+home)
}

// Become makes a server that has ended one of another kind: the next Start starts
// that on the same ports, the same directory and the same properties file. lib is
// the directory with the jars for "java".
func (s *Server) Become(kind, lib string) {
	s.t.Helper()
	if s.Running() {
		s.t.Fatalf("%s is to become %s while it runs", s.Name, kind)
	}
	s.Kind, s.JavaLib = kind, lib
	if kind == "gomq" {
		if s.Bin == "" {
			s.Bin = Build(s.t)
		}
		if s.Props["httpPort"] == "" {
			s.Props["httpPort"] = fmt.Sprint(s.Ports.HTTP)
		}
	}
}
