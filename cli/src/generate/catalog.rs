//! What the sample application is made of: routes, regions, browsers.

/// How a route is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
    /// A page that is rendered once and then comes from the cache.
    Prerendered,
    /// A page that is rendered for each request.
    Dynamic,
    /// An API route.
    Api,
    /// A file.
    Static,
    /// An API route that the clock calls, not a browser.
    Cron,
}

/// What stands for the variable part of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slug {
    /// Nothing is variable.
    None,
    /// A product's name.
    Product,
    /// A category's name.
    Category,
    /// An order's number.
    Order,
    /// A build's file.
    File,
}

/// A call of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    pub(crate) operation: &'static str,
    pub(crate) collection: &'static str,
    pub(crate) text: &'static str,
    pub(crate) typical_micros: u64,
}

/// A call of another service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) typical_micros: u64,
}

/// A part of the application's own work: a user span, with what it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) statements: &'static [Statement],
    pub(crate) calls: &'static [Call],
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    pub(crate) serving: Serving,
    pub(crate) slug: Slug,
    pub(crate) python: bool,
    pub(crate) steps: &'static [Step],
}

const fn statement(
    operation: &'static str,
    collection: &'static str,
    text: &'static str,
    typical_micros: u64,
) -> Statement {
    Statement {
        operation,
        collection,
        text,
        typical_micros,
    }
}

const fn call(
    method: &'static str,
    host: &'static str,
    path: &'static str,
    typical_micros: u64,
) -> Call {
    Call {
        method,
        host,
        path,
        typical_micros,
    }
}

const fn step(
    name: &'static str,
    scope: &'static str,
    statements: &'static [Statement],
    calls: &'static [Call],
) -> Step {
    Step {
        name,
        scope,
        statements,
        calls,
    }
}

const fn route(
    method: &'static str,
    template: &'static str,
    serving: Serving,
    slug: Slug,
    steps: &'static [Step],
) -> Route {
    Route {
        method,
        template,
        serving,
        slug,
        python: false,
        steps,
    }
}

const READ_PRODUCT: Statement = statement(
    "SELECT",
    "products",
    "SELECT id, name, price, stock FROM products WHERE slug = $1",
    1_800,
);
const READ_PRODUCTS: Statement = statement(
    "SELECT",
    "products",
    "SELECT id, slug, name, price FROM products WHERE category_id = $1 ORDER BY rank LIMIT 48",
    6_500,
);
const READ_REVIEWS: Statement = statement(
    "SELECT",
    "reviews",
    "SELECT author, stars, body FROM reviews WHERE product_id = $1 ORDER BY created_at DESC LIMIT 10",
    4_200,
);
const READ_CART: Statement = statement(
    "SELECT",
    "cart_items",
    "SELECT product_id, quantity FROM cart_items WHERE cart_id = $1",
    1_500,
);
const WRITE_CART: Statement = statement(
    "INSERT",
    "cart_items",
    "INSERT INTO cart_items (cart_id, product_id, quantity) VALUES ($1, $2, $3) ON CONFLICT DO UPDATE SET quantity = $3",
    2_600,
);
const WRITE_ORDER: Statement = statement(
    "INSERT",
    "orders",
    "INSERT INTO orders (id, user_id, total, currency) VALUES ($1, $2, $3, $4)",
    3_900,
);
const READ_ORDERS: Statement = statement(
    "SELECT",
    "orders",
    "SELECT id, total, state FROM orders WHERE user_id = $1 ORDER BY created_at DESC LIMIT 20",
    2_900,
);
const READ_USER: Statement = statement(
    "SELECT",
    "users",
    "SELECT id, email, plan FROM users WHERE id = $1",
    900,
);

const CONTENT: Call = call(
    "GET",
    "content.acme-cms.example",
    "/v2/entries/home",
    24_000,
);
const STOCK: Call = call("GET", "stock.acme.example", "/v1/availability", 18_000);
const PRICES: Call = call("POST", "prices.acme.example", "/v1/quotes", 15_000);
const PAYMENT: Call = call(
    "POST",
    "api.payments.example",
    "/v1/payment_intents",
    190_000,
);
const SEARCH: Call = call(
    "POST",
    "search.acme.example",
    "/indexes/products/query",
    32_000,
);
const MAIL: Call = call("POST", "api.mail.example", "/v3/mail/send", 85_000);
const MODEL: Call = call("POST", "models.acme.example", "/v1/embed", 120_000);

const LOAD_USER: Step = step("session.load user", "auth", &[READ_USER], &[]);
const LOAD_CART: Step = step("cart.load", "cart", &[READ_CART, READ_PRODUCT], &[]);

/// The routes, most visited first.
pub(crate) const ROUTES: &[Route] = &[
    route(
        "GET",
        "/products/[slug]",
        Serving::Prerendered,
        Slug::Product,
        &[step(
            "product.load",
            "catalog",
            &[READ_PRODUCT, READ_REVIEWS],
            &[STOCK],
        )],
    ),
    route(
        "GET",
        "/_next/static/chunks/[file]",
        Serving::Static,
        Slug::File,
        &[],
    ),
    route(
        "GET",
        "/",
        Serving::Prerendered,
        Slug::None,
        &[step(
            "home.compose",
            "catalog",
            &[READ_PRODUCTS],
            &[CONTENT],
        )],
    ),
    route(
        "GET",
        "/api/cart",
        Serving::Api,
        Slug::None,
        &[LOAD_USER, LOAD_CART],
    ),
    route(
        "GET",
        "/category/[slug]",
        Serving::Dynamic,
        Slug::Category,
        &[
            LOAD_USER,
            step("category.load", "catalog", &[READ_PRODUCTS], &[PRICES]),
        ],
    ),
    route(
        "GET",
        "/api/search",
        Serving::Api,
        Slug::None,
        &[step("search.run", "search", &[READ_PRODUCTS], &[SEARCH])],
    ),
    route(
        "POST",
        "/api/cart",
        Serving::Api,
        Slug::None,
        &[
            LOAD_USER,
            step("cart.add", "cart", &[READ_PRODUCT, WRITE_CART], &[STOCK]),
        ],
    ),
    Route {
        python: true,
        ..route(
            "GET",
            "/api/recommendations",
            Serving::Api,
            Slug::None,
            &[step(
                "recommendations.rank",
                "recommendations",
                &[READ_PRODUCTS],
                &[MODEL],
            )],
        )
    },
    route(
        "GET",
        "/cart",
        Serving::Dynamic,
        Slug::None,
        &[LOAD_USER, LOAD_CART],
    ),
    route(
        "POST",
        "/api/checkout",
        Serving::Api,
        Slug::None,
        &[
            LOAD_USER,
            LOAD_CART,
            step("checkout.charge", "checkout", &[], &[PRICES, PAYMENT]),
            step("checkout.place order", "checkout", &[WRITE_ORDER], &[MAIL]),
        ],
    ),
    route("GET", "/favicon.ico", Serving::Static, Slug::None, &[]),
    route(
        "GET",
        "/account/orders",
        Serving::Dynamic,
        Slug::None,
        &[
            LOAD_USER,
            step("orders.list", "orders", &[READ_ORDERS], &[]),
        ],
    ),
    route(
        "GET",
        "/account/orders/[id]",
        Serving::Dynamic,
        Slug::Order,
        &[
            LOAD_USER,
            step("orders.load", "orders", &[READ_ORDERS, READ_PRODUCT], &[]),
        ],
    ),
    route(
        "PATCH",
        "/api/profile",
        Serving::Api,
        Slug::None,
        &[LOAD_USER],
    ),
    route(
        "GET",
        "/api/cron/reindex",
        Serving::Cron,
        Slug::None,
        &[step(
            "search.reindex",
            "search",
            &[READ_PRODUCTS, READ_PRODUCTS],
            &[SEARCH, SEARCH],
        )],
    ),
];

/// Regions; visitors of the first are the most.
pub(crate) const REGIONS: &[&str] = &[
    "iad1", "fra1", "sfo1", "hnd1", "lhr1", "gru1", "syd1", "bom1",
];

/// Where functions run.
pub(crate) const FUNCTION_REGIONS: &[&str] = &["iad1", "fra1"];

/// Browsers.
pub(crate) const USER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
];

/// What calls scheduled routes.
pub(crate) const CRON_USER_AGENT: &str = "vercel-cron/1.0";

/// Parts of product names.
pub(crate) const ADJECTIVES: &[&str] = &[
    "amber", "brave", "calm", "copper", "crisp", "dusty", "early", "gentle", "golden", "ivory",
    "linen", "mellow", "nordic", "oak", "pale", "quiet", "round", "silver", "tall", "velvet",
];
/// Parts of product names.
pub(crate) const NOUNS: &[&str] = &[
    "armchair", "basket", "bench", "blanket", "bowl", "candle", "carpet", "clock", "cushion",
    "desk", "frame", "kettle", "lamp", "mirror", "mug", "rug", "shelf", "stool", "table", "vase",
];
/// Categories of products.
pub(crate) const CATEGORIES: &[&str] = &[
    "lighting",
    "seating",
    "kitchen",
    "textiles",
    "storage",
    "decoration",
    "outdoor",
    "sale",
];
