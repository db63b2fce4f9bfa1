/* FUNCTIONS(F) is F(000) F(001) … F(7ff): 2048 names, so that their slots fill four pages of 4 KiB. */
#define SIXTEEN(F, p) F(p##0) F(p##1) F(p##2) F(p##3) F(p##4) F(p##5) F(p##6) F(p##7) \
                      F(p##8) F(p##9) F(p##a) F(p##b) F(p##c) F(p##d) F(p##e) F(p##f)
#define BLOCK(F, p) SIXTEEN(F, p##0) SIXTEEN(F, p##1) SIXTEEN(F, p##2) SIXTEEN(F, p##3) \
                    SIXTEEN(F, p##4) SIXTEEN(F, p##5) SIXTEEN(F, p##6) SIXTEEN(F, p##7) \
                    SIXTEEN(F, p##8) SIXTEEN(F, p##9) SIXTEEN(F, p##a) SIXTEEN(F, p##b) \
                    SIXTEEN(F, p##c) SIXTEEN(F, p##d) SIXTEEN(F, p##e) SIXTEEN(F, p##f)
#define FUNCTIONS(F) BLOCK(F, 0) BLOCK(F, 1) BLOCK(F, 2) BLOCK(F, 3) BLOCK(F, 4) BLOCK(F, 5) BLOCK(F, 6) BLOCK(F, 7)
