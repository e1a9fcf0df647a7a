// Runs the controller of the page in a Tomcat 9, with Debian's Spring 4.3: there is no Spring Boot here. The annotations are
// the same. What Boot does by itself (the dispatcher, JSON, the page, the address) is done by hand, without
// @Configuration, since a Spring of before Java 9 cannot make classes on Java 17.

import com.example.notes.NotesController;
import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.catalina.startup.Tomcat;
import org.springframework.beans.factory.support.RootBeanDefinition;
import org.springframework.http.converter.json.MappingJackson2HttpMessageConverter;
import org.springframework.web.HttpRequestHandler;
import org.springframework.web.context.support.GenericWebApplicationContext;
import org.springframework.web.servlet.DispatcherServlet;
import org.springframework.web.servlet.handler.SimpleUrlHandlerMapping;
import org.springframework.web.servlet.mvc.HttpRequestHandlerAdapter;
import org.springframework.web.servlet.mvc.method.annotation.RequestMappingHandlerAdapter;
import org.springframework.web.servlet.mvc.method.annotation.RequestMappingHandlerMapping;

class Main {
    static final Path RESOURCES = Path.of("src/main/resources").toAbsolutePath();

    static final GenericWebApplicationContext context = new GenericWebApplicationContext();

    static void bean(Class<?> type, Map<String, Object> properties) {
        var bean = new RootBeanDefinition(type);
        properties.forEach(bean.getPropertyValues()::add);
        context.registerBeanDefinition(type.getSimpleName(), bean);
    }

    public static void main(String[] args) throws Exception {
        bean(NotesController.class, Map.of());
        bean(RequestMappingHandlerMapping.class, Map.of("order", 0));
        bean(RequestMappingHandlerAdapter.class, Map.of("messageConverters", List.of(new MappingJackson2HttpMessageConverter())));
        bean(HttpRequestHandlerAdapter.class, Map.of());
        context.getBeanFactory().registerSingleton("welcome", (HttpRequestHandler) (request, response) -> {
            response.setContentType("text/html;charset=utf-8");
            Files.copy(RESOURCES.resolve("static/index.html"), response.getOutputStream());
        });
        bean(SimpleUrlHandlerMapping.class, Map.of("urlMap", Map.of("/", "welcome")));

        var properties = new Properties();
        try (var file = new FileInputStream(RESOURCES.resolve("application.properties").toFile())) {
            properties.load(file);
        }
        var tomcat = new Tomcat();
        tomcat.setBaseDir("target/tomcat");
        tomcat.setPort(Integer.parseInt(properties.getProperty("server.port")));
        tomcat.getConnector().setProperty("address", properties.getProperty("server.address"));
        var root = tomcat.addContext("", null);
        Tomcat.addServlet(root, "dispatcher", new DispatcherServlet(context)).setLoadOnStartup(1);
        root.addServletMappingDecoded("/", "dispatcher");
        tomcat.start();
        tomcat.getServer().await();
    }
}
