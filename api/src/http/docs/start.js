SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#documentation",
  validatorUrl: "none",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
